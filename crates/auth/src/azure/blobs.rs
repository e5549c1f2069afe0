//! Containers of Azure Blob Storage: signatures for them, and whether they answer.
//!
//! A user delegation key is got with Entra's token, and signs what gives access to one container ("Create a user delegation
//! SAS" of the Azure Storage REST API). The connector's own secret stays between this machine and Entra.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use url::form_urlencoded;

use super::{cloud::Cloud, registry::Azure};
use crate::{
    AuthError, Secret,
    service::{Answer, Request, element},
    storage::BlobContainer,
};

/// What tokens for storage accounts are asked for, in every cloud.
const RESOURCE: &str = "https://storage.azure.com";
/// The version of the API, which is also that of the signature's form.
const VERSION: &str = "2021-08-06";
/// How long a signature is good; the service allows seven days.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// By how much the service's clock may be behind.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(15);
/// To read, add, create, write, delete and list, in the order that the service wants.
const PERMISSIONS: &str = "racwdl";

/// A key that signs in the name of whoever asked for it.
#[derive(Debug)]
struct DelegationKey {
    object: String,
    tenant: String,
    start: String,
    expiry: String,
    service: String,
    version: String,
    key: Secret,
}

impl Azure {
    /// A shared access signature for a container, and until when it is good.
    pub(crate) async fn signature(
        &self,
        container: &BlobContainer<'_>,
    ) -> Result<(Secret, Timestamp), AuthError> {
        let host = self.blob_host(container)?;
        let (account, _) = self.entra.account()?;
        let what = format!("get a key for signatures from the storage account {}", container.account);
        let now = Timestamp::now();
        let (start, ends) = (time(now - TOLERANCE), now + LIFETIME);
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>{start}</Start><Expiry>{}</Expiry></KeyInfo>",
            time(ends)
        );
        let (endpoint, url) = self.at(&host, "?restype=service&comp=userdelegationkey")?;
        let token = self.entra.token(self.cloud, RESOURCE).await?.secret;
        let request = Request::new(http::Method::POST, url)
            .header("x-ms-version", VERSION)
            .header("content-type", "application/xml")
            .bearer(&token)
            .body(body.into_bytes())
            .at(endpoint);
        let answer = self.service.send(&what, request).await?.accepted(|answer| {
            refused(
                answer,
                &what,
                format!(
                    "give {account} the role Storage Blob Data Contributor on the storage account {}",
                    container.account
                ),
            )
        })?;
        let signed = DelegationKey::read(&answer.text())
            .and_then(|key| key.sign(container, &time(ends)))
            .ok_or_else(|| {
                AuthError::refused(
                    self.service.origin(),
                    format!("cannot {what}"),
                    "the answer is not one of Azure Blob Storage",
                    format!("check that {host} is the storage account's host"),
                )
            })?;
        Ok((signed, ends))
    }

    /// Asks for the name of one blob. Fails with what to do if the container does not answer.
    pub(crate) async fn probe(&self, container: &BlobContainer<'_>) -> Result<(), AuthError> {
        let host = self.blob_host(container)?;
        let (account, _) = self.entra.account()?;
        let what =
            format!("list the container {} of the storage account {}", container.name, container.account);
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("restype", "container"), ("comp", "list"), ("maxresults", "1")])
            .append_pair("prefix", container.prefix)
            .finish();
        let (endpoint, url) = self.at(&host, &format!("{}?{query}", container.name))?;
        let token = self.entra.token(self.cloud, RESOURCE).await?.secret;
        // With the token, since a signature would stand in the URL.
        let request = Request::get(url).header("x-ms-version", VERSION).bearer(&token).at(endpoint);
        self.service.send(&what, request).await?.accepted(|answer| {
            refused(
                answer,
                &what,
                match answer.status {
                    StatusCode::NOT_FOUND => {
                        "create the container, or correct the URI of the artifact store".to_owned()
                    }
                    _ => format!("give {account} the role Storage Blob Data Contributor on the container"),
                },
            )
        })?;
        Ok(())
    }

    /// Where the account is, if drivers would look for it elsewhere.
    pub(crate) fn other_blob_host(&self, container: &BlobContainer<'_>) -> Option<String> {
        (self.cloud != Cloud::Public).then(|| format!("{}.{}", container.account, self.cloud.blobs()))
    }

    fn blob_host(&self, container: &BlobContainer<'_>) -> Result<String, AuthError> {
        let account = container.account;
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        // It becomes a part of a host's name.
        if !(3..=24).contains(&account.len()) || !account.bytes().all(is_plain) {
            return Err(AuthError::unusable(
                self.service.origin(),
                format!(
                    "`{account}` is not a storage account: they have 3 to 24 lower-case letters and digits"
                ),
                "correct the artifact store's account",
            ));
        }
        Ok(format!("{account}.{}", self.cloud.blobs()))
    }
}

impl DelegationKey {
    fn read(xml: &str) -> Option<Self> {
        Some(Self {
            object: element(xml, "SignedOid")?,
            tenant: element(xml, "SignedTid")?,
            start: element(xml, "SignedStart")?,
            expiry: element(xml, "SignedExpiry")?,
            service: element(xml, "SignedService")?,
            version: element(xml, "SignedVersion")?,
            key: Secret::new(element(xml, "Value")?),
        })
    }

    /// The signature for a container; none if the key is no key.
    fn sign(&self, container: &BlobContainer<'_>, expiry: &str) -> Option<Secret> {
        let resource = format!("/blob/{}/{}", container.account, container.name);
        // In the order of "Specify the signature": what is not said is empty.
        let lines = [
            PERMISSIONS,
            "", // from when on
            expiry,
            &resource,
            &self.object,
            &self.tenant,
            &self.start,
            &self.expiry,
            &self.service,
            &self.version,
            "", // an authorized user
            "", // an unauthorized user
            "", // a correlation ID
            "", // addresses
            "https",
            VERSION,
            "c",
            "", // a snapshot
            "", // an encryption scope
            "", // headers of answers: Cache-Control
            "", // Content-Disposition
            "", // Content-Encoding
            "", // Content-Language
            "", // Content-Type
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(self.key.expose()).ok()?);
        let signature = STANDARD.encode(hmac::sign(&key, lines.join("\n").as_bytes()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("se", expiry),
                ("sp", PERMISSIONS),
                ("spr", "https"),
                ("sv", VERSION),
                ("sr", "c"),
                ("skoid", &self.object),
                ("sktid", &self.tenant),
                ("skt", &self.start),
                ("ske", &self.expiry),
                ("sks", &self.service),
                ("skv", &self.version),
                ("sig", &signature),
            ])
            .finish();
        Some(Secret::new(query))
    }
}

/// A time as the service writes it: whole seconds.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A refusal, without the lines for support.
fn refused(answer: &Answer, what: &str, remedy: String) -> AuthError {
    let mut refusal = answer.refusal();
    if let Some(end) = refusal.message.find(['\r', '\n']) {
        refusal.message.truncate(end);
    }
    refusal.message = refusal.message.trim_end_matches('.').to_owned();
    answer.refused(what, &refusal, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `generate_container_sas` of Microsoft's `azure-storage-blob` 12.14 makes of the same key.
    const SDKS: &str = "se=2030-01-02T00%3A00%3A00Z&sp=racwdl&spr=https&sv=2021-08-06&sr=c\
        &skoid=11111111-1111-1111-1111-111111111111&sktid=22222222-2222-2222-2222-222222222222\
        &skt=2029-12-31T23%3A45%3A00Z&ske=2030-01-02T00%3A00%3A00Z&sks=b&skv=2021-08-06\
        &sig=M3GYwOmCX4pe9Cssnx5gnsrEIqjZ7DPXY0aPjFB7MV0%3D";

    #[test]
    fn signatures_are_those_of_microsofts_sdk() {
        let key = DelegationKey {
            object: "11111111-1111-1111-1111-111111111111".to_owned(),
            tenant: "22222222-2222-2222-2222-222222222222".to_owned(),
            start: "2029-12-31T23:45:00Z".to_owned(),
            expiry: "2030-01-02T00:00:00Z".to_owned(),
            service: "b".to_owned(),
            version: "2021-08-06".to_owned(),
            key: Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        };
        let container = BlobContainer { account: "team", name: "runs", prefix: "" };
        let expiry: Timestamp = "2030-01-02T00:00:00.9Z".parse().unwrap();
        assert_eq!(key.sign(&container, &time(expiry)).unwrap().expose(), SDKS);
        let broken = DelegationKey { key: Secret::new("?"), ..key };
        assert_eq!(broken.sign(&container, &time(expiry)), None);
        assert!(!format!("{broken:?}").contains('?'));
    }
}
