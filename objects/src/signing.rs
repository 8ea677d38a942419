//! SHA-256 and HMAC for AWS Signature Version 4, with the crates that are in the build anyway.

use hmac::{Hmac, KeyInit, Mac};
use object_store::client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm};
use sha2::{Digest, Sha256};

/// What S3 needs of cryptography; signing with RSA, which is Google's, is refused.
#[derive(Debug)]
pub(super) struct Signing;

fn unsupported(what: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("{what} is not part of signing S3 requests").into(),
    }
}

struct Hash {
    running: Sha256,
    result: [u8; 32],
}

struct Code {
    running: Hmac<Sha256>,
    result: [u8; 32],
}

impl CryptoProvider for Signing {
    fn digest(&self, algorithm: DigestAlgorithm) -> object_store::Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Hash {
                running: Sha256::new(),
                result: [0; 32],
            })),
            other => Err(unsupported(&format!("{other:?}"))),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> object_store::Result<Box<dyn HmacContext>> {
        let DigestAlgorithm::Sha256 = algorithm else {
            return Err(unsupported(&format!("{algorithm:?}")));
        };
        let running = Hmac::new_from_slice(secret).map_err(|error| unsupported(&error.to_string()))?;
        Ok(Box::new(Code {
            running,
            result: [0; 32],
        }))
    }

    fn sign(&self, algorithm: SigningAlgorithm, _pem: &[u8]) -> object_store::Result<Box<dyn Signer>> {
        Err(unsupported(&format!("{algorithm:?}")))
    }
}

impl DigestContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.running.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.result = self.running.finalize_reset().into();
        Ok(&self.result)
    }
}

impl HmacContext for Code {
    fn update(&mut self, data: &[u8]) {
        self.running.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.result = self.running.clone().finalize().into_bytes().into();
        Ok(&self.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// FIPS 180-2, B.1, and RFC 4231, test case 2.
    #[test]
    fn digests_are_those_of_the_standards() {
        let mut digest = Signing.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(
            hex(digest.finish().unwrap()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut code = Signing.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        code.update(b"what do ya want ");
        code.update(b"for nothing?");
        assert_eq!(
            hex(code.finish().unwrap()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
