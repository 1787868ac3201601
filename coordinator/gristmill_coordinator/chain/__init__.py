"""The settlement chain as the coordinator sees it: port.py is the seam, evm.py the real thing."""
