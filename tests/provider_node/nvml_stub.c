/* Stands in for the NVIDIA driver's libnvidia-ml.so.1. Its state is the file that NVML_STUB_FILE names, read again at every
 * call, so a test makes a card hot, busy or lost by rewriting it. No file: no driver is loaded. Lines, N a card's number:
 *
 *   INIT=18                  what nvmlInit returns (9 not loaded, 12 no library, 18 other version); then COUNT, DRIVER, CUDA
 *   N.LOST=1                 every question about the card fails with "GPU is lost"
 *   N.PROCS=4242:900:C,...   processes on it: pid, MiB, C compute or G graphics
 *   N.XIDS=79,48             errors that the driver reports, each once
 *   N.NAME, N.MEM_MIB, N.USED_MIB, N.TEMP, N.UTIL, N.POWER_W, N.LIMIT_W, N.MIG, N.NVLINKS, N.ECC, N.THROTTLE (hex), ...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CARDS 8
enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, NOT_LOADED = 9, TIMEOUT = 10, LIBRARY_NOT_FOUND = 12, LOST = 15, OTHER_VERSION = 18
};
struct memory { unsigned long long total, free, used; };
struct rates { unsigned gpu, memory; };
struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };
struct event { void *card; unsigned long long type, what; unsigned gpu_instance, compute_instance; };
struct card { int number, limit_mw, xids_told; };

static struct card cards[CARDS];
static int opened;

static const char *text(int card, const char *key, const char *otherwise)
{
    static char line[512];
    char wanted[64];
    const char *name = getenv("NVML_STUB_FILE");
    FILE *file = name ? fopen(name, "r") : NULL;
    if (!file) return otherwise;
    if (card < 0) snprintf(wanted, sizeof wanted, "%s=", key);
    else snprintf(wanted, sizeof wanted, "%d.%s=", card, key);
    const char *found = otherwise;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, wanted, strlen(wanted))) { found = line + strlen(wanted); break; }
    }
    fclose(file);
    return found;
}

static long number(int card, const char *key, long otherwise)
{
    const char *found = text(card, key, NULL);
    return found ? strtol(found, NULL, 0) : otherwise;
}

static int count(void) { int n = number(-1, "COUNT", 1); return n > CARDS ? CARDS : n; }
static int about(struct card *card)
{
    if (!opened) return UNINITIALIZED;
    if (!card || card->number >= count()) return INVALID_ARGUMENT;
    return number(card->number, "LOST", 0) ? LOST : OK;
}
#define ABOUT(card) int bad = about(card); if (bad) return bad
#define NUMBER(function, key, otherwise) \
    int function(struct card *card, unsigned *out) { ABOUT(card); *out = number(card->number, key, otherwise); return OK; }

int nvmlInitWithFlags(unsigned flags)
{
    int bad = number(-1, "INIT", getenv("NVML_STUB_FILE") ? OK : NOT_LOADED);
    for (int i = 0; i < CARDS; i++) cards[i].number = i;
    if (!bad) opened++;
    return bad;
}
int nvmlShutdown(void)
{
    if (!opened) return UNINITIALIZED;
    if (!--opened) memset(cards, 0, sizeof cards);
    return OK;
}
const char *nvmlErrorString(int code)
{
    switch (code) {
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case NOT_LOADED: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    case OTHER_VERSION: return "Driver/library version mismatch";
    }
    return "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "%s", text(-1, "DRIVER", "580.82.07")); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = number(-1, "CUDA", 13000); return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = count(); return OK; }

static void name_card(int card, char *out, unsigned size)
{
    snprintf(out, size, "GPU-fa4e%04x-0000-4000-8000-000000000000", card);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out)
{
    if ((int)index >= count()) return INVALID_ARGUMENT;
    *out = &cards[index];
    return number(index, "LOST", 0) ? LOST : OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out)
{
    char name[96];
    for (int i = 0; i < count(); i++) {
        name_card(i, name, sizeof name);
        if (!strcmp(name, uuid)) return nvmlDeviceGetHandleByIndex_v2(i, out);
    }
    return NOT_FOUND;
}
int nvmlDeviceGetName(struct card *card, char *out, unsigned size)
{
    ABOUT(card);
    snprintf(out, size, "%s", text(card->number, "NAME", "NVIDIA GeForce RTX 4090"));
    return OK;
}
int nvmlDeviceGetUUID(struct card *card, char *out, unsigned size) { ABOUT(card); name_card(card->number, out, size); return OK; }
int nvmlDeviceGetMemoryInfo(struct card *card, struct memory *out)
{
    ABOUT(card);
    out->total = (unsigned long long)number(card->number, "MEM_MIB", 24564) << 20;
    out->used = (unsigned long long)number(card->number, "USED_MIB", 512) << 20;
    out->free = out->total - out->used;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(struct card *card, int *major, int *minor) { ABOUT(card); *major = 8; *minor = 9; return OK; }
int nvmlDeviceGetMigMode(struct card *card, unsigned *now, unsigned *next)
{
    ABOUT(card);
    long mig = number(card->number, "MIG", -1);
    *now = *next = mig;
    return mig < 0 ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetEccMode(struct card *card, unsigned *now, unsigned *next)
{
    ABOUT(card);
    long ecc = number(card->number, "ECC", -1);
    *now = *next = ecc >= 0;
    return ecc < 0 ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetTotalEccErrors(struct card *card, int kind, int since, unsigned long long *out)
{
    ABOUT(card);
    long ecc = number(card->number, "ECC", -1);
    *out = ecc;
    return ecc < 0 ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetNvLinkState(struct card *card, unsigned link, unsigned *out)
{
    ABOUT(card);
    long links = number(card->number, "NVLINKS", 0);
    *out = (long)link < links;
    return links ? OK : NOT_SUPPORTED;
}
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "PCIE_GENERATION", 4)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "PCIE_WIDTH", 16)
int nvmlDeviceGetTemperature(struct card *card, int sensor, unsigned *out) { ABOUT(card); *out = number(card->number, "TEMP", 45); return OK; }
int nvmlDeviceGetUtilizationRates(struct card *card, struct rates *out)
{
    ABOUT(card);
    out->gpu = number(card->number, "UTIL", 0);
    out->memory = 0;
    return OK;
}
int nvmlDeviceGetPowerUsage(struct card *card, unsigned *out) { ABOUT(card); *out = 1000 * number(card->number, "POWER_W", 60); return OK; }
int nvmlDeviceGetPowerManagementLimitConstraints(struct card *card, unsigned *least, unsigned *most)
{
    ABOUT(card);
    *least = 150000;
    *most = 600000;
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(struct card *card, unsigned *out)
{
    ABOUT(card);
    *out = card->limit_mw ? card->limit_mw : 1000 * number(card->number, "LIMIT_W", 450);
    return OK;
}
int nvmlDeviceSetPowerManagementLimit(struct card *card, unsigned limit_mw)
{
    ABOUT(card);
    if (number(card->number, "LOCKED", 0)) return NO_PERMISSION;
    card->limit_mw = limit_mw;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(struct card *card, unsigned long long *out)
{
    ABOUT(card);
    *out = number(card->number, "THROTTLE", 0);
    return OK;
}

static int processes(struct card *card, char kind, unsigned *n, struct process *out)
{
    ABOUT(card);
    char listed[512];
    unsigned found = 0, room = out ? *n : 0;
    snprintf(listed, sizeof listed, "%s", text(card->number, "PROCS", ""));
    for (char *one = strtok(listed, ","); one; one = strtok(NULL, ",")) {
        unsigned pid, mib;
        char its;
        if (sscanf(one, "%u:%u:%c", &pid, &mib, &its) != 3 || its != kind) continue;
        if (found < room) out[found] = (struct process){pid, (unsigned long long)mib << 20, -1, -1};
        found++;
    }
    *n = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct card *card, unsigned *n, struct process *out) { return processes(card, 'C', n, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct card *card, unsigned *n, struct process *out) { return processes(card, 'G', n, out); }

/* A set of events is the set of cards registered in it, a bit each. */
int nvmlEventSetCreate(unsigned **set) { *set = calloc(1, sizeof **set); return OK; }
int nvmlEventSetFree(unsigned *set) { free(set); return OK; }
int nvmlDeviceGetSupportedEventTypes(struct card *card, unsigned long long *out) { ABOUT(card); *out = 0x0a; return OK; }
int nvmlDeviceRegisterEvents(struct card *card, unsigned long long types, unsigned *set)
{
    ABOUT(card);
    *set |= 1u << card->number;
    return types & ~0x0aULL ? NOT_SUPPORTED : OK;
}
int nvmlEventSetWait_v2(unsigned *set, struct event *out, unsigned timeout_ms)
{
    for (int i = 0; i < count(); i++) {
        char listed[512];
        int at = 0;
        if (!(*set >> i & 1)) continue;
        snprintf(listed, sizeof listed, "%s", text(i, "XIDS", ""));
        for (char *one = strtok(listed, ","); one; one = strtok(NULL, ",")) {
            if (at++ < cards[i].xids_told) continue;
            cards[i].xids_told++;
            *out = (struct event){&cards[i], 8, strtoul(one, NULL, 10), -1, -1};
            return OK;
        }
    }
    return TIMEOUT;
}
