//! OpenPGP: who signed an `InRelease`, and whether that counts (RFC 9580; §7 for the cleartext framework).
//!
//! The keyring is a file of the administrator's, the message comes from the network. Of the message nothing is used but
//! the signed text, exactly as it was hashed. A signature counts if its hash is SHA-256 or stronger, its key is in the
//! keyring, and neither it nor its key is expired or revoked *now*, which is apt's rule too. One good signature is
//! enough: releases are signed by the old and the new key while keys change.

use std::{fs, path::Path};

use jiff::Timestamp;
use pgp::{
    composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::{KeyDetails, Tag},
};

use crate::sources::KeySource;

/// Why a signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// The message is not clearsigned.
    #[error(
        "the file is not one clearsigned message ({0}); a proxy or login page may have answered in the archive's place"
    )]
    Shape(&'static str),
    /// None of the signatures counts.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    None(Vec<Rejection>),
}

/// Why one signature does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The message bears no signature at all.
    #[error("it bears no signature")]
    Unsigned,
    /// The signature itself cannot be read.
    #[error("a signature cannot be read ({0})")]
    Unreadable(String),
    /// The key is not in the keyring.
    #[error(
        "key {0} is not in the keyring; install the distribution's current keyring package, or name its keyring"
    )]
    UnknownKey(String),
    /// The hash is too weak.
    #[error("key {0} signed with {1}, which is weaker than SHA-256")]
    WeakHash(String, String),
    /// The text is not what was signed.
    #[error("key {0} did not sign this text: it was changed on its way, or the mirror is being updated")]
    Bad(String),
    /// The key has expired.
    #[error("key {0} expired on {1}; install the distribution's current keyring package")]
    Expired(String, String),
    /// The key is revoked.
    #[error("key {0} is revoked; install the distribution's current keyring package")]
    Revoked(String),
    /// The key may not sign.
    #[error("key {0} may not sign: {1}")]
    Unfit(String, &'static str),
    /// The signature is from the future or has expired.
    #[error("the signature of key {0} is {1} (is this machine's clock right?)")]
    Time(String, &'static str),
}

/// OpenPGP certificates.
#[derive(Debug, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
    /// What could not be read, for messages.
    problems: Vec<String>,
}

/// A good signature's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The fingerprint of the key or subkey that signed.
    pub fingerprint: String,
}

impl Keyring {
    /// Reads the certificates of all `keys`. A file that cannot be read is a problem only if no other has the key.
    pub fn load(keys: &[KeySource]) -> Self {
        let mut keyring = Self::default();
        for key in keys {
            match key {
                KeySource::File(path) => keyring.file(path),
                KeySource::Inline(text) => keyring.add("the key in the settings", text.as_bytes()),
                KeySource::Fingerprint { fingerprint, files } => {
                    let mut all = Self::default();
                    for path in files {
                        all.file(path);
                    }
                    keyring.problems.append(&mut all.problems);
                    let named = |it: &SignedPublicKey| {
                        hex(it) == *fingerprint
                            || it.public_subkeys.iter().any(|sub| hex(&sub.key) == *fingerprint)
                    };
                    keyring.certificates.extend(all.certificates.into_iter().filter(named));
                }
            }
        }
        keyring
    }

    fn file(&mut self, path: &Path) {
        match fs::read(path) {
            Ok(bytes) => self.add(&path.display().to_string(), &bytes),
            Err(error) => self.problems.push(format!("{}: {error}", path.display())),
        }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        let before = self.certificates.len();
        let parsed = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            SignedPublicKey::from_armor_many(bytes.trim_ascii_start()).map(|(keys, _)| keys)
        } else {
            SignedPublicKey::from_bytes_many(bytes)
        };
        match parsed {
            Ok(keys) => {
                for key in keys {
                    match key {
                        Ok(key) => self.certificates.push(key),
                        Err(error) => self.problems.push(format!("{name}: {error}")),
                    }
                }
            }
            Err(error) => self.problems.push(format!("{name}: {error}")),
        }
        if self.certificates.len() == before {
            self.problems.push(format!("{name} holds no OpenPGP certificate that can be read"));
        }
    }

    /// Whether there is no certificate at all.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// What could not be read.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Checks a clearsigned message and returns the text that was signed, with who signed it.
    pub fn verify(&self, message: &str, now: Timestamp) -> Result<(String, Signer), SignatureError> {
        let (text, armor) = split(message)?;
        let mut rejections = Vec::new();
        let signatures = DetachedSignature::from_armor_many(armor.as_bytes());
        match signatures {
            Err(error) => rejections.push(Rejection::Unreadable(error.to_string())),
            Ok((signatures, _)) => {
                for signature in signatures.take(MOST_SIGNATURES) {
                    let outcome = signature
                        .map_err(|error| Rejection::Unreadable(error.to_string()))
                        .and_then(|signature| self.check(&signature.signature, &text, now));
                    match outcome {
                        Ok(signer) => return Ok((text, signer)),
                        Err(rejection) => rejections.push(rejection),
                    }
                }
            }
        }
        if rejections.is_empty() {
            rejections.push(Rejection::Unsigned);
        }
        Err(SignatureError::None(rejections))
    }

    fn check(&self, signature: &Signature, text: &str, now: Timestamp) -> Result<Signer, Rejection> {
        let issuer = issuer(signature);
        if signature.typ() != Some(SignatureType::Text) {
            return Err(Rejection::Unfit(issuer, "its signature is not one over text"));
        }
        let strong = [
            HashAlgorithm::Sha256,
            HashAlgorithm::Sha384,
            HashAlgorithm::Sha512,
            HashAlgorithm::Sha3_256,
            HashAlgorithm::Sha3_512,
        ];
        let hash = signature.hash_alg();
        if !hash.is_some_and(|hash| strong.contains(&hash)) {
            return Err(Rejection::WeakHash(
                issuer,
                hash.map_or_else(|| "an unknown hash".to_owned(), |it| it.to_string()),
            ));
        }
        let mut rejection = Rejection::UnknownKey(issuer);
        for certificate in &self.certificates {
            let primary = Some(None).filter(|_| issued_by(signature, certificate));
            let subkeys =
                certificate.public_subkeys.iter().filter(|sub| issued_by(signature, &sub.key)).map(Some);
            for subkey in primary.into_iter().chain(subkeys) {
                match certify(certificate, subkey, signature, text, now) {
                    Ok(signer) => return Ok(signer),
                    Err(why) => rejection = why,
                }
            }
        }
        Err(rejection)
    }
}

/// More signatures than any release bears.
const MOST_SIGNATURES: usize = 16;

/// Checks a signature against the certificate's primary key or one of its subkeys, and that key's fitness.
fn certify(
    certificate: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    signature: &Signature,
    text: &str,
    now: Timestamp,
) -> Result<Signer, Rejection> {
    let fingerprint = subkey.map_or_else(|| hex(certificate), |sub| hex(&sub.key));
    let verified = match subkey {
        Some(sub) => signature.verify(&sub.key, text.as_bytes()),
        None => signature.verify(&certificate.primary_key, text.as_bytes()),
    };
    verified.map_err(|_| Rejection::Bad(fingerprint.clone()))?;
    let made = seconds(signature);
    if made > now.as_second() + CLOCK_SKEW {
        return Err(Rejection::Time(fingerprint, "from the future"));
    }
    if expired(made, signature.signature_expiration_time(), now) {
        return Err(Rejection::Time(fingerprint, "expired"));
    }
    primary_is_fit(certificate, subkey.is_none(), now)?;
    if let Some(sub) = subkey {
        subkey_is_fit(certificate, sub, now)?;
    }
    Ok(Signer { fingerprint })
}

/// How far ahead of ours the signer's clock may be, in seconds.
const CLOCK_SKEW: i64 = 24 * 60 * 60;

/// The primary key is not revoked and, by its newest self-signature, not expired; if it `signs`, it may.
fn primary_is_fit(certificate: &SignedPublicKey, signs: bool, now: Timestamp) -> Result<(), Rejection> {
    let key = &certificate.primary_key;
    let fingerprint = hex(key);
    if certificate.details.revocation_signatures.iter().any(|it| it.verify_key(key).is_ok()) {
        return Err(Rejection::Revoked(fingerprint));
    }
    let direct = certificate.details.direct_signatures.iter().filter(|it| it.verify_key(key).is_ok());
    let users = certificate.details.users.iter().flat_map(|user| {
        let valid = |it: &&Signature| {
            issued_by(it, key) && it.verify_certification(key, Tag::UserId, &user.id).is_ok()
        };
        let own: Vec<&Signature> = user.signatures.iter().filter(valid).collect();
        let revoked = own.iter().any(|it| it.typ() == Some(SignatureType::CertRevocation));
        own.into_iter().filter(move |_| !revoked)
    });
    let newest = newest(direct.chain(users), now)
        .ok_or(Rejection::Unfit(fingerprint.clone(), "it has no valid self-signature"))?;
    not_expired(key, newest, &fingerprint, now)?;
    let flags = newest.key_flags();
    let says_nothing = !(flags.sign()
        || flags.certify()
        || flags.encrypt_comms()
        || flags.encrypt_storage()
        || flags.authentication());
    if signs && !flags.sign() && !says_nothing {
        return Err(Rejection::Unfit(fingerprint, "its flags say that it is for other purposes"));
    }
    Ok(())
}

/// The subkey is bound to the primary key and back, meant for signing, not revoked and not expired.
fn subkey_is_fit(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: Timestamp,
) -> Result<(), Rejection> {
    let primary = &certificate.primary_key;
    let fingerprint = hex(&subkey.key);
    let valid = |it: &&Signature| it.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of =
        |kind: SignatureType| subkey.signatures.iter().filter(move |it| it.typ() == Some(kind)).filter(valid);
    if of(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(Rejection::Revoked(fingerprint));
    }
    let binding = newest(of(SignatureType::SubkeyBinding), now)
        .ok_or(Rejection::Unfit(fingerprint.clone(), "it is not bound to its primary key"))?;
    not_expired(&subkey.key, binding, &fingerprint, now)?;
    let back = binding.embedded_signature();
    if !binding.key_flags().sign()
        || back.is_none_or(|it| it.verify_primary_key_binding(&subkey.key, primary).is_err())
    {
        return Err(Rejection::Unfit(fingerprint, "its binding does not make it a signing key"));
    }
    Ok(())
}

/// The newest signature that is in force.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: Timestamp) -> Option<&'a Signature> {
    signatures
        .filter(|it| {
            seconds(it) <= now.as_second() + CLOCK_SKEW
                && !expired(seconds(it), it.signature_expiration_time(), now)
        })
        .max_by_key(|it| seconds(it))
}

fn not_expired(
    key: &impl KeyDetails,
    binding: &Signature,
    fingerprint: &str,
    now: Timestamp,
) -> Result<(), Rejection> {
    let made = i64::from(key.created_at().as_secs());
    if expired(made, binding.key_expiration_time(), now) {
        let end = made + binding.key_expiration_time().map_or(0, |it| i64::from(it.as_secs()));
        let end =
            Timestamp::from_second(end).map(|end| end.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
        return Err(Rejection::Expired(fingerprint.to_owned(), end));
    }
    Ok(())
}

/// Whether what began at `start` and lasts for `duration` is over. No duration, or one of zero, lasts for ever.
fn expired(start: i64, duration: Option<pgp::types::Duration>, now: Timestamp) -> bool {
    duration.is_some_and(|it| it.as_secs() > 0 && start + i64::from(it.as_secs()) <= now.as_second())
}

fn seconds(signature: &Signature) -> i64 {
    signature.created().map_or(i64::MAX, |at| i64::from(at.as_secs()))
}

fn hex(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprint = key.fingerprint();
    let id = key.legacy_key_id();
    signature.issuer_fingerprint().into_iter().any(|it| *it == fingerprint)
        || signature.issuer_key_id().into_iter().any(|it| *it == id)
}

/// What the signature says about its key, for messages.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|it| format!("{it:X}"));
    let id = || {
        signature.issuer_key_id().first().map(|it| {
            let bytes: [u8; 8] = it.as_ref().try_into().unwrap_or_default();
            format!("{:016X}", u64::from_be_bytes(bytes))
        })
    };
    fingerprint.or_else(id).unwrap_or_else(|| "(unnamed)".to_owned())
}

/// The text of a clearsigned message whose signature does not matter; `None` if it is not clearsigned.
pub(crate) fn text_of(message: &str) -> Option<String> {
    split(message).ok().map(|(text, _)| text)
}

/// Splits a clearsigned message into the signed text and the armored signatures. Nothing may stand before, between or
/// after them: what is not signed is not there to be mistaken for what is.
fn split(message: &str) -> Result<(String, &str), SignatureError> {
    let wrong = |why| Err(SignatureError::Shape(why));
    let Some(mut rest) = message.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----") else {
        return wrong("it does not begin with `-----BEGIN PGP SIGNED MESSAGE-----`");
    };
    let mut line = || {
        let (line, after) = rest.split_once('\n')?;
        rest = after;
        Some((line, after))
    };
    if line().is_none_or(|(end, _)| !end.trim_end().is_empty()) {
        return wrong("its first line goes on");
    }
    loop {
        match line() {
            Some((header, _)) if header.trim_end().is_empty() => break,
            Some((header, _)) if header.starts_with("Hash: ") => {}
            _ => return wrong("its headers are not `Hash` headers"),
        }
    }
    let mut text = String::with_capacity(message.len());
    let armor = loop {
        let before = rest;
        let Some((content, after)) = before.split_once('\n') else {
            return wrong("it ends before its signature");
        };
        rest = after;
        let content = content.strip_suffix('\r').unwrap_or(content);
        if content == "-----BEGIN PGP SIGNATURE-----" {
            break before;
        }
        let content = match content.strip_prefix("- ") {
            Some(escaped) => escaped,
            None if content.starts_with('-') => return wrong("a line with a dash is not escaped"),
            None => content,
        };
        text.push_str(content.trim_end_matches([' ', '\t']));
        text.push('\n');
    };
    let end = "-----END PGP SIGNATURE-----";
    match armor.split_once(end) {
        Some((_, after)) if after.trim().is_empty() => {
            // The line end before the signature is not part of the text (RFC 9580 §7.1).
            text.pop();
            Ok((text, armor))
        }
        Some(_) => wrong("something follows its signature"),
        None => wrong("its signature does not end"),
    }
}
