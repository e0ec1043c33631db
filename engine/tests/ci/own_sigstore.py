"""A Sigstore of the tests' own: certificate authority, certificate log, transparency log, and what they sign."""

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from mergeline.ci.attest import trusted_verifier

ISSUER = "https://token.actions.githubusercontent.com"
STATEMENT = "application/vnd.in-toto+json"
_LOG = "log.example"
_SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def base64_text(content):
    return base64.b64encode(content).decode()


def public_bytes(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(key, content):
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


class OwnSigstore:
    """Signs statements as Sigstore's public instance does for GitHub Actions."""

    def __init__(self):
        self.authority_key, self.certificate_log, self.log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.authority = self._authority()

    def trusted_root(self):
        """The keys, as `gh attestation trusted-root` writes them."""
        valid = {"start": (self.now - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        subject = {"organization": "own", "commonName": "own"}
        chain = {"certificates": [{"rawBytes": base64_text(self.authority.public_bytes(Encoding.DER))}]}
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.log, valid)],
            "certificateAuthorities": [
                {"subject": subject, "uri": "https://ca.example", "certChain": chain, "validFor": valid}
            ],
            "ctlogs": [self._log(self.certificate_log, valid)],
            "timestampAuthorities": [],
        }

    def attest(self, statement, *, identity, repository, issuer=ISSUER, kind=STATEMENT):
        """A bundle over `statement`, signed by the workflow `identity` that runs in `repository` (both addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, identity, repository, issuer)
        payload = json.dumps(statement).encode() if not isinstance(statement, bytes) else statement
        signature = sign(key, b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
        envelope = {
            "payload": base64_text(payload),
            "payloadType": kind,
            "signatures": [{"sig": base64_text(signature)}],
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": base64_text(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(certificate, payload, signature)],
                "timestampVerificationData": {},
            },
            "dsseEnvelope": envelope,
        }

    def _authority(self):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
        key = self.authority_key
        return (
            self._builder(name, name, key.public_key(), timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    def _builder(self, subject, issuer, public_key, before):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - before)
            .not_valid_after(self.now + timedelta(minutes=10))
        )

    def _certificate(self, key, identity, repository, issuer):
        """A certificate for ten minutes, that the log of certificates has seen before it was signed."""
        builder = (
            self._builder(x509.Name([]), self.authority.subject, key.public_key(), timedelta(minutes=1))
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
            .add_extension(_claim(1, issuer.encode()), critical=False)
            .add_extension(_claim(12, _der(0x0C, repository.encode())), critical=False)
        )
        precertificate = builder.sign(self.authority_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = int(self.now.timestamp() * 1000)
        issuer_hash = hashlib.sha256(public_bytes(self.authority_key)).digest()
        entry = issuer_hash + len(precertificate).to_bytes(3) + precertificate
        signature = sign(self.certificate_log, struct.pack("!BBQH", 0, 0, stamp, 1) + entry + b"\0\0")
        log_id = hashlib.sha256(public_bytes(self.certificate_log)).digest()
        one = b"\0" + log_id + struct.pack("!QH", stamp, 0) + b"\4\3" + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        return builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, _der(0x04, listed)), critical=False).sign(
            self.authority_key, hashes.SHA256()
        )

    def _entry(self, certificate, payload, signature):
        """The log's only entry, with its proof and its promise."""
        body = json.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                    "signatures": [
                        {
                            "signature": base64_text(signature),
                            "verifier": base64_text(certificate.public_bytes(Encoding.PEM)),
                        }
                    ],
                },
            }
        ).encode()
        log_id, seconds = hashlib.sha256(public_bytes(self.log)).digest(), int(self.now.timestamp())
        promise = rfc8785.dumps(
            {"body": base64_text(body), "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 0}
        )
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"{_LOG} - 1\n1\n{base64_text(root)}\n"
        checkpoint = f"{note}\n— {_LOG} {base64_text(log_id[:4] + sign(self.log, note.encode()))}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": base64_text(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": base64_text(sign(self.log, promise))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": base64_text(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": base64_text(body),
        }

    @staticmethod
    def _log(key, valid):
        public = public_bytes(key)
        return {
            "baseUrl": f"https://{_LOG}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": base64_text(public),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": valid,
            },
            "logId": {"keyId": base64_text(hashlib.sha256(public).digest())},
        }


def _usage(*, certificates):
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _claim(number, value):
    """What the certificate authority read in the workflow's token."""
    return x509.UnrecognizedExtension(ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}"), value)


def _der(tag, content):
    length = len(content)
    size = length.to_bytes(max(1, (length.bit_length() + 7) // 8))
    return bytes([tag]) + (size if length < 128 else bytes([0x80 | len(size)]) + size) + content


def verifier_of(sigstore, folder):
    """What checks bundles by the roots of a Sigstore, written into `folder`."""
    file = folder / "trusted_root.json"
    file.write_text(json.dumps(sigstore.trusted_root()))
    return trusted_verifier(file)
