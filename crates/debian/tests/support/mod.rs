//! A tiny signed archive on disk, made with real keys and real `.deb` files, and reached by `file:` URLs.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::new_without_default,
    reason = "each test uses a part of this; a failure here fails the test"
)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use longshore_debian::{
    ParentRequest, Sources,
    sources::{Archive, Currency, KeySource, Network, Trust},
};
use longshore_fetch::{FetchConfig, Fetcher};
use longshore_layer::Format;
use longshore_oci::{Arch, Digest};
use longshore_store::{BlobStore, Table};
use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder,
        SignedPublicKey, SignedSecretKey,
    },
    crypto::hash::HashAlgorithm,
    packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData},
    ser::Serialize as _,
    types::{Duration, KeyDetails, Password, Tag},
};
use tempfile::TempDir;

/// An OpenPGP key pair.
pub struct Key {
    pub secret: SignedSecretKey,
    pub public: SignedPublicKey,
}

impl Key {
    pub fn new() -> Self {
        Self::of_type(KeyType::Ed25519Legacy)
    }

    /// An RSA key, which signs with any hash; the other refuses weak ones.
    pub fn rsa() -> Self {
        Self::of_type(KeyType::Rsa(2048))
    }

    fn of_type(kind: KeyType) -> Self {
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters
            .key_type(kind)
            .can_certify(true)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .primary_user_id("Archive <archive@localhost>".to_owned());
        let secret = parameters.build().unwrap().generate(rand::thread_rng()).unwrap();
        let public = SignedPublicKey::from(secret.clone());
        Self { secret, public }
    }

    fn config(&self, kind: SignatureType, more: Vec<SubpacketData>) -> SignatureConfig {
        let key = &self.secret.primary_key;
        let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha256);
        let data = [
            SubpacketData::SignatureCreationTime(pgp::types::Timestamp::now()),
            SubpacketData::IssuerFingerprint(key.fingerprint()),
        ];
        config.hashed_subpackets =
            data.into_iter().chain(more).map(|data| Subpacket::regular(data).unwrap()).collect();
        config
    }

    /// Lets the key expire so many seconds after it was made.
    pub fn expiring(mut self, seconds: u32) -> Self {
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        flags.set_certify(true);
        let more = vec![
            SubpacketData::KeyFlags(flags),
            SubpacketData::KeyExpirationTime(Duration::from_secs(seconds)),
        ];
        let user = &mut self.public.details.users[0];
        let id = user.id.clone();
        let config = self.config(SignatureType::CertPositive, more);
        let signature = config
            .sign_certification(
                &self.secret.primary_key,
                &self.public.primary_key,
                &Password::empty(),
                Tag::UserId,
                &id,
            )
            .unwrap();
        self.public.details.users[0].signatures = vec![signature];
        self
    }

    pub fn revoked(mut self) -> Self {
        let config = self.config(SignatureType::KeyRevocation, Vec::new());
        let signature =
            config.sign_key(&self.secret.primary_key, &Password::empty(), &self.public.primary_key).unwrap();
        self.public.details.revocation_signatures.push(signature);
        self
    }

    pub fn binary(&self) -> Vec<u8> {
        self.public.to_bytes().unwrap()
    }

    pub fn armored(&self) -> String {
        self.public.to_armored_string(ArmorOptions::default()).unwrap()
    }

    pub fn clearsign(&self, text: &str, hash: HashAlgorithm) -> String {
        let mut config = self.config(SignatureType::Text, Vec::new());
        config.hash_alg = hash;
        let message = CleartextSignedMessage::new(
            text.trim_end(),
            config,
            &self.secret.primary_key,
            &Password::empty(),
        );
        message.unwrap().to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// One entry of a package's `data.tar`.
pub enum Item<'a> {
    Directory(&'a str),
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Device(&'a str),
}

/// A tar archive whose names are written as they are, however hostile.
pub fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let (name, kind, content, target): (&str, tar::EntryType, &[u8], &str) = match *item {
            Item::Directory(name) => (name, tar::EntryType::Directory, &[], ""),
            Item::File(name, content) => (name, tar::EntryType::Regular, content, ""),
            Item::Link(name, target) => (name, tar::EntryType::Symlink, &[], target),
            Item::HardLink(name, target) => (name, tar::EntryType::Link, &[], target),
            Item::Device(name) => (name, tar::EntryType::Char, &[], ""),
        };
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Regular { 0o644 } else { 0o755 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An `ar` archive.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        archive.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes(),
        );
        archive.extend_from_slice(content);
        if content.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

/// A `.deb` of a control stanza, further control files and files.
pub fn deb(control: &str, more: &[(&str, &str)], items: &[Item<'_>]) -> Vec<u8> {
    let names: Vec<String> = more.iter().map(|(name, _)| format!("./{name}")).collect();
    let mut files = vec![Item::Directory("./"), Item::File("./control", control.as_bytes())];
    files.extend(names.iter().zip(more).map(|(name, (_, content))| Item::File(name, content.as_bytes())));
    let (control, data) = (gz(&tar_of(&files)), xz(&tar_of(items)));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.xz", &data)])
}

/// An archive in a folder, with what is needed to use it.
pub struct TestArchive {
    folder: TempDir,
    packages: Vec<(String, Vec<u8>)>,
    pub fetcher: Fetcher,
    pub blobs: BlobStore,
    pub table: Table,
}

impl TestArchive {
    /// An archive with the two packages that every parent needs.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let mut archive = Self {
            blobs: BlobStore::open(store.join("blobs")).unwrap(),
            table: Table::open(store.join("table")).unwrap(),
            fetcher: Fetcher::new(FetchConfig::default()),
            folder,
            packages: Vec::new(),
        };
        archive.package(
            "Package: base-files\nVersion: 1\nArchitecture: amd64\n",
            &[
                Item::Directory("./"),
                Item::Directory("./bin/"),
                Item::Directory("./tmp/"),
                Item::File("./usr/lib/os-release", b"ID=debian\n"),
                Item::Link("./etc/os-release", "../usr/lib/os-release"),
            ],
        );
        archive.package(
            "Package: base-passwd\nVersion: 1\nArchitecture: amd64\nDepends: base-files (>= 1)\n",
            &[
                Item::File("./usr/share/base-passwd/passwd.master", b"root:*:0:0:root:/root:/bin/bash\n"),
                Item::File("./usr/share/base-passwd/group.master", b"root:*:0:\nshadow:*:42:\n"),
            ],
        );
        archive
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// Adds a package made of a control stanza and files.
    pub fn package(&mut self, control: &str, items: &[Item<'_>]) {
        self.raw(control, deb(control, &[], items));
    }

    /// Adds a package whose `.deb` is given.
    pub fn raw(&mut self, control: &str, deb: Vec<u8>) {
        self.packages.push((control.to_owned(), deb));
    }

    /// Writes `pool` and the index; gives the text of `Release`, with `more` fields.
    pub fn release(&self, more: &str) -> String {
        let mut index = String::new();
        for (number, (control, deb)) in self.packages.iter().enumerate() {
            let path = format!("pool/{number}.deb");
            self.write(&path, deb);
            let about = format!(
                "{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
                deb.len(),
                Digest::of(deb).hex()
            );
            index.push_str(&about);
        }
        let index = xz(index.as_bytes());
        self.write("dists/test/main/binary-amd64/Packages.xz", &index);
        let digest = Digest::of(&index).hex();
        format!(
            "Origin: Debian\nSuite: test\nCodename: test\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nArchitectures: amd64\nComponents: main\n{more}\
             SHA256:\n {digest} {} main/binary-amd64/Packages.xz\n",
            index.len()
        )
    }

    /// Writes the whole archive, signed by `key`.
    pub fn publish(&self, key: &Key) {
        let text = self.release("");
        self.in_release(&key.clearsign(&text, HashAlgorithm::Sha512));
    }

    pub fn in_release(&self, text: &str) {
        self.write("dists/test/InRelease", text.as_bytes());
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A request for the archive's packages, judged on the day after it was made.
    pub fn request(&self, trust: Trust, roots: &[&str]) -> ParentRequest {
        let url = url::Url::from_directory_path(self.path()).unwrap();
        let archive = Archive {
            url,
            suite: "test".to_owned(),
            components: vec!["main".to_owned()],
            architectures: Vec::new(),
            trust,
            check_valid_until: None,
            place: "the test".to_owned(),
        };
        let sources = Sources {
            archives: vec![archive],
            codename: None,
            origins: vec!["Debian".to_owned()],
            currency: Currency::default(),
            network: Network::default(),
        };
        let mut request = ParentRequest::python(Arch::Amd64, sources);
        request.roots =
            ["base-files", "base-passwd"].iter().chain(roots).map(|&root| root.to_owned()).collect();
        request.now = Timestamp::now().max("2026-07-12T00:00:00Z".parse().unwrap());
        request
    }

    /// The same, trusting `key` by a keyring file.
    pub fn signed_request(&self, key: &Key, roots: &[&str]) -> ParentRequest {
        let path = self.folder.path().join("keyring.gpg");
        fs::write(&path, key.binary()).unwrap();
        self.request(Trust::Keys(vec![KeySource::File(path)]), roots)
    }

    pub async fn plan(
        &self,
        request: &ParentRequest,
    ) -> Result<longshore_debian::ParentPlan, longshore_debian::Error> {
        longshore_debian::plan(request, &self.fetcher, &self.blobs, &self.table, &|_| ()).await
    }

    pub async fn parent(
        &self,
        request: &ParentRequest,
    ) -> Result<longshore_debian::Parent, longshore_debian::Error> {
        let plan = self.plan(request).await?;
        longshore_debian::fetch(&plan, &self.fetcher, &self.blobs, &|_| ()).await?;
        longshore_debian::assemble(&plan, Format::Plain, &self.blobs, &self.blobs, &|_| ())
    }
}

/// Unpacks a parent's layers with `tar`, in order.
pub fn unpack(parent: &longshore_debian::Parent, blobs: &BlobStore, root: &Path) {
    for layer in &parent.layers {
        let status = std::process::Command::new("tar")
            .args(["--no-same-owner", "--same-permissions", "-xzf"])
            .arg(blobs.path(&layer.digest))
            .arg("-C")
            .arg(root)
            .status()
            .unwrap();
        assert!(status.success(), "{}", layer.group);
    }
}
