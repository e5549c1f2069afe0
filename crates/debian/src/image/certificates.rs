//! What `update-ca-certificates` and `openssl rehash` would make: the bundle, and the links by which OpenSSL finds a
//! certificate by its subject.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest as _, Sha1};

use super::{extension, lines, tree::Tree};
use crate::{Error, deb::Spool};

const SOURCE: &str = "usr/share/ca-certificates";
const CERTIFICATES: &str = "etc/ssl/certs";

/// Makes `/etc/ca-certificates.conf`, `/etc/ssl/certs/*.pem`, their hashed links and `ca-certificates.crt`, if the
/// package `ca-certificates` is in the tree. All its certificates are enabled, as by default.
pub(super) fn add(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    let mut names: Vec<String> = tree
        .below(SOURCE)
        .filter_map(|node| node.entry.path.as_str().strip_prefix("usr/share/ca-certificates/"))
        .filter(|name| extension(name) == Some("crt"))
        .map(ToOwned::to_owned)
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let mut bundle = Vec::new();
    let mut hashed: Vec<(u32, String)> = Vec::new();
    for name in &names {
        let source = format!("{SOURCE}/{name}");
        let Some(pem) = tree.read(&source, spools)? else { continue };
        bundle.extend_from_slice(pem.trim_ascii_end());
        bundle.push(b'\n');
        let link = format!("{}.pem", plain_name(name));
        tree.link(&format!("{CERTIFICATES}/{link}"), &format!("/{source}"))?;
        let hash = subject_hash(&pem).ok_or_else(|| Error::Deb {
            deb: "ca-certificates".to_owned(),
            why: format!("`{source}` is no X.509 certificate"),
        })?;
        hashed.push((hash, link));
    }
    hashed.sort();
    let mut number = 0;
    for (index, (hash, link)) in hashed.iter().enumerate() {
        number = if index > 0 && hashed[index - 1].0 == *hash { number + 1 } else { 0 };
        tree.link(&format!("{CERTIFICATES}/{hash:08x}.{number}"), link)?;
    }
    tree.file(&format!("{CERTIFICATES}/ca-certificates.crt"), 0o644, bundle)?;
    let list = lines(&names);
    tree.file("etc/ca-certificates.conf", 0o644, list)?;
    tree.directory("usr/local/share/ca-certificates", 0o755, 0)
}

/// The name of a certificate's link, as `update-ca-certificates` makes it.
fn plain_name(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.trim_end_matches(".crt").replace([' ', ','], "_").replace(['(', ')'], "=")
}

/// The hash of a PEM certificate's subject by which OpenSSL looks it up: the first four bytes, little endian, of the SHA-1 of the
/// name's canonical encoding (`X509_NAME_hash_ex`).
fn subject_hash(pem: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).ok()?;
    let certificate = Der(&der).expect(SEQUENCE)?;
    let mut fields = Der(Der(certificate).expect(SEQUENCE)?);
    let mut fields_left = 4; // serial number, algorithm, issuer, validity
    if fields.tag()? == VERSION {
        fields_left += 1;
    }
    for _ in 0..fields_left {
        fields.next()?;
    }
    let hash = Sha1::digest(canonical_name(fields.expect(SEQUENCE)?)?);
    Some(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const T61: u8 = 0x14;
const IA5: u8 = 0x16;
const VISIBLE: u8 = 0x1a;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

/// A name with all its text in UTF-8, lower case, and single blanks; without its outer header.
fn canonical_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut canonical = Vec::new();
    let mut sets = Der(name);
    while !sets.0.is_empty() {
        let mut members = Vec::new();
        let mut set = Der(sets.expect(SET)?);
        while !set.0.is_empty() {
            let mut pair = Der(set.expect(SEQUENCE)?);
            let (oid_tag, oid) = pair.next()?;
            let (tag, value) = pair.next()?;
            let (tag, value) = canonical_value(tag, value)?;
            let content = [encode(oid_tag, oid), encode(tag, &value)].concat();
            members.push(encode(SEQUENCE, &content));
        }
        members.sort();
        canonical.extend(encode(SET, &members.concat()));
    }
    Some(canonical)
}

fn canonical_value(tag: u8, value: &[u8]) -> Option<(u8, Vec<u8>)> {
    let text: String = match tag {
        UTF8 => std::str::from_utf8(value).ok()?.to_owned(),
        // T.61 is read as Latin-1, as OpenSSL does.
        PRINTABLE | T61 | IA5 | VISIBLE => value.iter().copied().map(char::from).collect(),
        BMP => value
            .chunks(2)
            .map(|it| char::from_u32(u32::from(u16::from_be_bytes(it.try_into().ok()?))))
            .collect::<Option<_>>()?,
        UNIVERSAL => value
            .chunks(4)
            .map(|it| char::from_u32(u32::from_be_bytes(it.try_into().ok()?)))
            .collect::<Option<_>>()?,
        _ => return Some((tag, value.to_vec())),
    };
    let words: Vec<&str> =
        text.split([' ', '\t', '\n', '\r', '\x0b', '\x0c']).filter(|word| !word.is_empty()).collect();
    Some((UTF8, words.join(" ").to_ascii_lowercase().into_bytes()))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    if content.len() >= 128 {
        encoded.push(0x80 | u8::try_from(length.len() - first).unwrap_or(8));
    }
    encoded.extend_from_slice(&length[first..]);
    encoded.extend_from_slice(content);
    encoded
}

/// A sequence of DER values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value: its tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn openssl_agrees_on_every_certificate_of_this_machine() {
        let folder = std::path::Path::new("/usr/share/ca-certificates/mozilla");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the package ca-certificates is installed") {
            let path = entry.unwrap().path();
            let output =
                Command::new("openssl").args(["x509", "-noout", "-subject_hash", "-in"]).arg(&path).output();
            let expected = String::from_utf8(output.expect("openssl is installed").stdout).unwrap();
            let ours = subject_hash(&std::fs::read(&path).unwrap()).map(|hash| format!("{hash:08x}"));
            assert_eq!(ours.as_deref(), Some(expected.trim()), "{}", path.display());
            seen += 1;
        }
        assert!(seen > 50);
    }

    #[test]
    fn names_are_made_as_the_program_makes_them() {
        assert_eq!(
            plain_name("mozilla/NetLock_Arany_=Class_Gold=_Főtanúsítvány.crt"),
            "NetLock_Arany_=Class_Gold=_Főtanúsítvány"
        );
        assert_eq!(plain_name("a b(c),d.crt"), "a_b=c=_d");
    }

    proptest! {
        #[test]
        fn hostile_certificates_do_no_harm(der: Vec<u8>, text: String) {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(&der));
            let _ = subject_hash(pem.as_bytes());
            let _ = subject_hash(text.as_bytes());
            let _ = canonical_name(&der);
        }

        #[test]
        fn der_round_trips(tag: u8, content in proptest::collection::vec(any::<u8>(), 0..400)) {
            let encoded = encode(tag, &content);
            prop_assert_eq!(Der(&encoded).next(), Some((tag, &content[..])));
        }
    }
}
