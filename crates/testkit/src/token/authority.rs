//! Tokens: made, read, revoked.

use std::{
    collections::HashSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};

use super::Scope;

/// Signs tokens as the distribution project's registry reads them ("Token Authentication Implementation"): JSON web
/// tokens (ES256) whose header has the certificate of the key.
#[derive(Debug)]
pub struct Authority {
    issuer: String,
    service: String,
    certificate: String,
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    revoked: Mutex<Revoked>,
}

#[derive(Debug, Default)]
struct Revoked {
    issued: HashSet<String>,
    revoked: HashSet<String>,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// The account; empty for anonymous access.
    pub sub: String,
    /// The service that it is for.
    pub aud: String,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// From when on it is good.
    pub nbf: i64,
    /// When it was made.
    pub iat: i64,
    /// Its own name.
    pub jti: String,
    /// What it allows.
    pub access: Vec<Access>,
}

/// One scope, as tokens spell it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository's path, or `catalog`.
    pub name: String,
    /// What may be done.
    pub actions: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is past its time.
    #[error("the token has expired")]
    Expired,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// It is not one of ours.
    #[error("the token is not valid: {0}")]
    Invalid(String),
}

impl Authority {
    /// A new key with its certificate.
    pub(crate) fn new(issuer: &str, service: &str) -> io::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let mut certificate = CertificateParams::default();
        certificate.distinguished_name.push(DnType::CommonName, issuer);
        let certificate = certificate.self_signed(&key).map_err(io::Error::other)?;

        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(libtrust_key_id(&key.subject_public_key_info()));
        header.x5c = Some(vec![STANDARD.encode(certificate.der())]);
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[service]);
        Ok(Self {
            issuer: issuer.to_owned(),
            service: service.to_owned(),
            certificate: certificate.pem(),
            header,
            signing: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(io::Error::other)?,
            verifying: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(io::Error::other)?,
            validation,
            revoked: Mutex::default(),
        })
    }

    /// The service that tokens are for, as the challenge names it.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Who signs.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The certificate of the key, in PEM format: what a registry is given as its `rootcertbundle`.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A token.
    pub fn issue(&self, account: &str, scopes: &[Scope], lifetime: Duration) -> io::Result<String> {
        let now = Timestamp::now().as_second();
        let jti = random_text()?;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: account.to_owned(),
            aud: self.service.clone(),
            exp: now.saturating_add_unsigned(lifetime.as_secs()),
            nbf: now,
            iat: now,
            jti: jti.clone(),
            access: scopes
                .iter()
                .map(|scope| Access {
                    kind: scope.kind.clone(),
                    name: scope.name.clone(),
                    actions: scope.actions.clone(),
                })
                .collect(),
        };
        self.revoked().issued.insert(jti);
        jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(io::Error::other)
    }

    /// What a token says, if it is good at this very moment.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        use jsonwebtoken::errors::ErrorKind;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Refusal::Expired,
                _ => Refusal::Invalid(error.to_string()),
            })?
            .claims;
        if self.revoked().revoked.contains(&claims.jti) { Err(Refusal::Revoked) } else { Ok(claims) }
    }

    /// Takes back all tokens that were issued so far.
    pub fn revoke_all(&self) {
        let mut state = self.revoked();
        let issued = std::mem::take(&mut state.issued);
        state.revoked.extend(issued);
    }

    fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claims {
    /// Whether the token allows an action on a repository.
    pub fn allow(&self, repository: &str, action: &str) -> bool {
        self.access.iter().any(|access| {
            access.kind == "repository"
                && access.name == repository
                && access.actions.iter().any(|allowed| allowed == action || allowed == "*")
        })
    }
}

/// Text that nobody guesses.
pub(crate) fn random_text() -> io::Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(base32(&bytes))
}

/// The name of a public key as libtrust has it, which registries before version 3 look keys up by: the first 30 bytes of
/// the SHA-256 of its DER form, in base 32, in groups of four.
fn libtrust_key_id(public_key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, public_key);
    let text = base32(&hash.as_ref()[..30]);
    let groups: Vec<_> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
    groups.join(":")
}

/// Base 32 (RFC 4648 §6), without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    bytes
        .chunks(5)
        .flat_map(|chunk| {
            let mut padded = [0; 8];
            padded[3..3 + chunk.len()].copy_from_slice(chunk);
            let value = u64::from_be_bytes(padded);
            let digits = (chunk.len() * 8).div_ceil(5);
            (0..digits).map(move |i| {
                char::from(ALPHABET[usize::from((value >> (35 - 5 * i)).to_be_bytes()[7] & 31)])
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_32_is_the_published_one() {
        // RFC 4648 §10.
        for (plain, encoded) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), encoded, "{plain}");
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked_and_only_for_its_service() {
        let authority = Authority::new("issuer", "service").unwrap();
        let scopes = [Scope::repository("team/app", "pull")];
        let token = authority.issue("me", &scopes, Duration::from_mins(1)).unwrap();
        let claims = authority.verify(&token).unwrap();
        assert!(claims.allow("team/app", "pull"));
        assert!(!claims.allow("team/app", "push") && !claims.allow("team/other", "pull"));
        authority.revoke_all();
        assert_eq!(authority.verify(&token).unwrap_err(), Refusal::Revoked);
        let later = authority.issue("me", &scopes, Duration::from_mins(1)).unwrap();
        assert!(authority.verify(&later).is_ok(), "what is issued later is good");
        let other = Authority::new("issuer", "service").unwrap();
        assert!(matches!(other.verify(&later), Err(Refusal::Invalid(_))), "another key");
    }
}
