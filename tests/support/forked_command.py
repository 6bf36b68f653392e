"""`forked_command.py SOCKET ARGUMENT…` runs a `stenobird` command in a child of the fork server.

It passes on its environment, folder, standard files and signals, and ends as the command ends. It imports
little, because it stands for a program that tests start again and again.
"""

import json
import os
import signal
import socket
import sys

connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
for passed_on in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(passed_on, lambda number, _: connection.send(bytes([number])))
request = {"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd()}  # noqa: PTH109  # pathlib is large
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
connection.recv(16)
status = json.loads(connection.recv(16) or "1")
# A shell's status of a program that a signal ended is 128 and its number.
os._exit(128 - status if status < 0 else status)
