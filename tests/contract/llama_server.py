"""llama.cpp's own HTTP server (from the package xllamacpp) on a free port, until standard input ends.

Usage: python llama_server.py MODEL.gguf NAME; prints the server's address.
"""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, alias = sys.argv[1:3]
params.model_alias = {alias}
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 16384
params.endpoint_slots = True
params.n_parallel = 4
# Threads of llama.cpp spin while they wait for each other, which a busy machine punishes.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
