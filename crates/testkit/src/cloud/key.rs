//! RSA keys, and the tokens that they sign.

use std::io;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Serialize, de::DeserializeOwned};

/// A key.
#[derive(Clone)]
pub(super) struct SigningKey {
    pem: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// A new one.
    pub(super) fn generate() -> io::Result<Self> {
        let pair =
            KeyPair::generate(KeySize::Rsa2048).map_err(|_| io::Error::other("no RSA key can be made"))?;
        let der =
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| io::Error::other("no PKCS #8 can be made"))?;
        let lines: Vec<_> = STANDARD
            .encode(der.as_ref())
            .into_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        Ok(Self {
            encoding: EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(io::Error::other)?,
            decoding: DecodingKey::from_rsa_der(pair.public_key().as_ref()),
            pem,
        })
    }

    /// The private key, in PEM format.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// A token with these claims (RS256).
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &self.encoding).unwrap_or_default()
    }

    /// The claims of a token that it signed. Times are for the caller to judge.
    pub(super) fn verify<T: DeserializeOwned + Clone>(&self, token: &str) -> Option<T> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Some(jsonwebtoken::decode(token, &self.decoding, &validation).ok()?.claims)
    }
}
