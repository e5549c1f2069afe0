//! Signature Version 4, by AWS's own crate.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::{Secret, cache::Expires};

/// An access key, long-lived or of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    pub(crate) session: Option<Secret>,
    pub(crate) expires: Option<Timestamp>,
}

impl Expires for Keys {
    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// What is signed.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    pub(crate) signing: Signing,
}

/// Whose rules a request is signed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// Those of all services but one.
    Common,
    /// Those of S3: the path is signed as it is sent, encoded once, and the digest of the body is a header (Amazon S3 API
    /// reference, "Signature Calculations for the Authorization Header").
    S3,
}

impl Signing {
    fn settings(self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self == Self::S3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        settings
    }
}

/// The headers to add to a request: `Authorization`, `X-Amz-Date` and, for sessions, `X-Amz-Security-Token`.
pub(crate) fn signature(
    request: &Unsigned<'_>,
    keys: &Keys,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<HeaderMap, String> {
    let session = keys.session.as_ref().map(|session| session.expose().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.expose(), session, None, "longshore").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(request.signing.settings())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = request.headers.iter().copied();
    let signable =
        SignableRequest::new(request.method, request.url, headers, SignableBody::Bytes(request.body))
            .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(signable, &params).map_err(|error| error.to_string())?.into_parts();
    let (signed, _) = instructions.into_parts();
    let mut headers = HeaderMap::new();
    for header in signed {
        let name: HeaderName =
            header.name().parse().map_err(|_| format!("{} is no header", header.name()))?;
        let mut value =
            HeaderValue::from_str(header.value()).map_err(|_| format!("{name} has no valid value"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One request of AWS's "Signature Version 4 test suite" (`aws-sig-v4-test-suite`), with the access key
    /// AKIDEXAMPLE at 20150830T123600Z for the service `service` in us-east-1, and the signature that it must have.
    struct Vector {
        name: &'static str,
        method: &'static str,
        url: &'static str,
        headers: &'static [(&'static str, &'static str)],
        body: &'static [u8],
        session: Option<&'static str>,
        signed_headers: &'static str,
        signature: &'static str,
    }

    const VECTORS: &[Vector] = &[
        Vector {
            name: "get-vanilla",
            method: "GET",
            url: "https://example.amazonaws.com/",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        },
        Vector {
            name: "get-vanilla-query-order-key-case",
            method: "GET",
            url: "https://example.amazonaws.com/?Param2=value2&Param1=value1",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        },
        Vector {
            name: "get-vanilla-empty-query-key",
            method: "GET",
            url: "https://example.amazonaws.com/?Param1=value1",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        },
        Vector {
            name: "get-vanilla-query-unreserved",
            method: "GET",
            url: "https://example.amazonaws.com/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        },
        Vector {
            name: "get-vanilla-with-session-token",
            method: "GET",
            url: "https://example.amazonaws.com/",
            headers: &[],
            body: b"",
            session: Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
            signed_headers: "host;x-amz-date;x-amz-security-token",
            signature: "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        },
        Vector {
            name: "post-header-value-case",
            method: "POST",
            url: "https://example.amazonaws.com/",
            headers: &[("My-Header1", "VALUE1")],
            body: b"",
            session: None,
            signed_headers: "host;my-header1;x-amz-date",
            signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        },
        Vector {
            name: "post-vanilla",
            method: "POST",
            url: "https://example.amazonaws.com/",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        },
        Vector {
            name: "post-vanilla-query",
            method: "POST",
            url: "https://example.amazonaws.com/?Param1=value1",
            headers: &[],
            body: b"",
            session: None,
            signed_headers: "host;x-amz-date",
            signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        },
        Vector {
            name: "post-header-key-sort",
            method: "POST",
            url: "https://example.amazonaws.com/",
            headers: &[("My-Header1", "value1")],
            body: b"",
            session: None,
            signed_headers: "host;my-header1;x-amz-date",
            signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        },
        Vector {
            name: "post-x-www-form-urlencoded",
            method: "POST",
            url: "https://example.amazonaws.com/",
            headers: &[("Content-Type", "application/x-www-form-urlencoded")],
            body: b"Param1=value1",
            session: None,
            signed_headers: "content-type;host;x-amz-date",
            signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        },
    ];

    #[test]
    fn signatures_are_those_of_the_published_vectors() {
        // 2015-08-30T12:36:00Z
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_mins(24_015_636);
        for vector in VECTORS {
            let Vector { method, url, headers, body, .. } = *vector;
            let keys = Keys {
                id: "AKIDEXAMPLE".to_owned(),
                secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                session: vector.session.map(Secret::new),
                expires: None,
            };
            let unsigned = Unsigned { method, url, headers, body, signing: Signing::Common };
            let made = signature(&unsigned, &keys, "us-east-1", "service", time).unwrap();
            assert_eq!(made["x-amz-date"], "20150830T123600Z");
            assert_eq!(
                made["authorization"].to_str().unwrap(),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={}, Signature={}",
                    vector.signed_headers, vector.signature
                ),
                "{}",
                vector.name
            );
        }
    }

    #[test]
    fn requests_to_s3_have_the_digest_of_their_body() {
        // "Authenticating Requests: Using the Authorization Header", example "GET Object"; 2013-05-24T00:00:00Z.
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_hours(380_376);
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session: None,
            expires: None,
        };
        let request = Unsigned {
            method: "GET",
            url: "https://examplebucket.s3.amazonaws.com/test.txt",
            headers: &[("range", "bytes=0-9")],
            body: b"",
            signing: Signing::S3,
        };
        let made = signature(&request, &keys, "us-east-1", "s3", time).unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(made["x-amz-content-sha256"], empty);
        let authorization = made["authorization"].to_str().unwrap();
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(authorization.ends_with(&format!("Signature={expected}")), "{authorization}");
    }
}
