#!/usr/bin/python3
"""A DNS server on 127.0.0.1:53 with the names of three members, for dns.sh."""
import socket
import struct

DOMAIN = "cluster.test"
A, PTR, SRV = 1, 12, 33


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def records():
    table = {}
    for i in (1, 2, 3):
        host = f"n{i}.{DOMAIN}"
        table[host, A] = [bytes([127, 0, 0, i])]
        table[f"{i}.0.0.127.in-addr.arpa", PTR] = [name(host)]
        for service, port in (("etcd-server-ssl", 2380), ("etcd-client-ssl", 2379)):
            table.setdefault((f"_{service}._tcp.{DOMAIN}", SRV), []).append(
                struct.pack(">HHH", 0, i, port) + name(host))
    return table


def answer(query, table):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += query[at] + 1
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    found = table.get((".".join(labels), kind), [])
    exists = any(key[0] == ".".join(labels) for key in table)
    head = query[:2] + struct.pack(">HHHHH", 0x8180 if exists else 0x8183, 1, len(found), 0, 0)
    body = b"".join(struct.pack(">HHHIH", 0xc00c, kind, 1, 60, len(data)) + data for data in found)
    return head + query[12:at + 5] + body


def main():
    table = records()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, table), client)


if __name__ == "__main__":
    main()
