"""certs.py - certificates for a run of chaos.py, by openssl(1): an authority,
one for each member, and one for all clients. They began ten days ago and end in
a month: a clock that jumps by a day does not end them."""
import os
import ssl
import subprocess
import time

CONFIG = """
[ca]
default_ca = c
[c]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = p
copy_extensions = copy
unique_subject = no
[p]
commonName = supplied
"""
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificates:
    def __init__(self, directory):
        os.mkdir(directory)
        self.dir = directory
        with open(self.path("ca.cnf"), "w") as f:
            f.write(CONFIG)
        with open(self.path("index.txt"), "w"):
            pass
        self.make("ca", ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,cRLSign"], "-selfsign", "-keyfile", "ca.key")
        self.leaf("client")
        self.context = ssl.create_default_context(cafile=self.path("ca.pem"))
        self.context.load_cert_chain(self.path("client.pem"), self.path("client.key"))

    def path(self, name):
        return os.path.join(self.dir, name)

    def run(self, *args):
        subprocess.run(("openssl",) + args, cwd=self.dir, check=True, capture_output=True)

    def make(self, name, extensions, *signer):
        day = lambda n: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + n * 86400))
        added = [arg for text in extensions for arg in ("-addext", text)]
        self.run("req", "-new", *KEY, "-subj", f"/CN={name}", *added, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self.run("ca", "-config", "ca.cnf", "-batch", "-notext", "-startdate", day(-10), "-enddate", day(30), *signer,
                 "-in", f"{name}.csr", "-out", f"{name}.pem")

    def leaf(self, name, host=None):
        names = [f"subjectAltName=IP:{host}"] if host else []
        self.make(name, ["extendedKeyUsage=serverAuth,clientAuth"] + names, "-cert", "ca.pem", "-keyfile", "ca.key")

    def flags(self, name):
        """A member's: everybody shows a certificate to everybody."""
        cert, key, ca = (self.path(x) for x in (f"{name}.pem", f"{name}.key", "ca.pem"))
        return ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
                "--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", ca, "--peer-client-cert-auth"]
