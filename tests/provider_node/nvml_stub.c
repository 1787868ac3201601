/* Stands in for the NVIDIA driver's libnvidia-ml.so.1: one card, or none (NVML_STUB_COUNT=0), or no driver at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID "GPU-fa4e0000-0000-4000-8000-000000000000"
enum { OK = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };
struct memory { unsigned long long total, free, used; };

static int card;

int nvmlInitWithFlags(unsigned flags) { return getenv("NVML_STUB_NO_DRIVER") ? DRIVER_NOT_LOADED : OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Found"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.82.07"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = getenv("NVML_STUB_COUNT") ? atoi(getenv("NVML_STUB_COUNT")) : 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &card; return index ? INVALID_ARGUMENT : OK; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { *device = &card; return strcmp(uuid, UUID) ? NOT_FOUND : OK; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { snprintf(text, size, "NVIDIA GeForce RTX 4090"); return OK; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) { snprintf(text, size, UUID); return OK; }
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
    memory->total = 24564ULL << 20;
    memory->used = 512ULL << 20;
    memory->free = memory->total - memory->used;
    return OK;
}
