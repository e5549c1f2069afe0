//! Buckets of Amazon S3 and of what speaks its protocol: keys for them, and whether they answer.

use http::Method;
use serde_json::json;
use url::Url;

use super::{
    Aws, DEFAULT_REGION,
    client::{Unsent, aws_remedy},
    host::{is_region, suffix_of},
    sign::{Keys, Signing},
};
use crate::{
    AuthError,
    service::Answer,
    storage::{Lifetime, S3Bucket, StorageCredential},
};

/// What a bucket of Amazon's says its region is, to whoever asked another one.
const REGION: &str = "x-amz-bucket-region";

impl Aws {
    /// Keys for a bucket: new ones where the method makes sessions.
    pub(crate) async fn bucket_keys(&self, bucket: &S3Bucket<'_>) -> Result<Keys, AuthError> {
        let region = self.bucket_region(bucket)?;
        // It becomes a part of the name of STS's host, and other services may call their regions anything.
        let known = self.config.text("region").unwrap_or(&region);
        let sts_region = if is_region(known) { known } else { DEFAULT_REGION };
        self.new_keys(sts_region, &policy(bucket, &region)).await
    }

    /// Asks for the name of one object. Fails with what to do if the bucket does not answer.
    pub(crate) async fn probe(&self, bucket: &S3Bucket<'_>, keys: &Keys) -> Result<(), AuthError> {
        let what = format!("list the bucket {}", bucket.name);
        let region = self.bucket_region(bucket)?;
        let answer = self.list(&what, bucket, keys, &region).await?;
        let answer = match moved(&answer, bucket, &region) {
            // The driver in the container follows too.
            Some(other) => self.list(&what, bucket, keys, &other).await?,
            None => answer,
        };
        answer.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy = match refusal.code.as_str() {
                "NoSuchBucket" => "create the bucket, or correct the URI of the artifact store".to_owned(),
                _ => aws_remedy(
                    &refusal,
                    "allow s3:ListBucket on the bucket, and s3:GetObject and s3:PutObject on its objects",
                ),
            };
            answer.refused(&what, &refusal, remedy)
        })?;
        Ok(())
    }

    async fn list(
        &self,
        what: &str,
        bucket: &S3Bucket<'_>,
        keys: &Keys,
        region: &str,
    ) -> Result<Answer, AuthError> {
        let url = listing(bucket, region).map_err(|(endpoint, reason)| {
            AuthError::unusable(
                self.client.service.origin(),
                format!("cannot {what}: the endpoint {endpoint} {reason}"),
                "correct the artifact store's endpoint_url and region",
            )
        })?;
        let unsent = Unsent { method: Method::GET, url, headers: &[], body: Vec::new() };
        let request = self.client.signed_request(what, unsent, keys, region, ("s3", Signing::S3))?;
        self.client.service.send(what, request).await
    }

    fn bucket_region(&self, bucket: &S3Bucket<'_>) -> Result<String, AuthError> {
        match bucket.region {
            Some(region) => Ok(region.to_owned()),
            None => Ok(self.region()?.unwrap_or_else(|| DEFAULT_REGION.to_owned())),
        }
    }
}

impl Keys {
    /// The same for whoever signs requests with them, and how long they are good.
    pub(crate) fn into_storage(self) -> (StorageCredential, Lifetime) {
        let lifetime = match (self.expires, &self.session) {
            (Some(expires), _) => Lifetime::Until(expires),
            (None, Some(_)) => Lifetime::Unknown,
            (None, None) => Lifetime::Unlimited,
        };
        (StorageCredential::Amazon { id: self.id, secret: self.secret, session: self.session }, lifetime)
    }
}

/// The URL that lists one object; the error is the endpoint, and what is wrong with it. The bucket is in the path, which every
/// service understands.
fn listing(bucket: &S3Bucket<'_>, region: &str) -> Result<Url, (String, String)> {
    let endpoint = match bucket.endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("https://s3.{region}.{}", suffix_of(region)),
    };
    if bucket.endpoint.is_none() && !is_region(region) {
        return Err((endpoint, format!("cannot be: `{region}` is not a region such as eu-west-1")));
    }
    let mut url = match Url::parse(&endpoint) {
        Ok(url) => url,
        Err(error) => return Err((endpoint, format!("is not a URL: {error}"))),
    };
    if !matches!(url.scheme(), "https" | "http") || !url.username().is_empty() || url.password().is_some() {
        return Err((endpoint, "must be an http or https URL without credentials".to_owned()));
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(bucket.name);
    }
    url.set_query(None);
    url.query_pairs_mut()
        .append_pair("list-type", "2")
        .append_pair("max-keys", "1")
        .append_pair("prefix", bucket.prefix);
    Ok(url)
}

/// The region that a bucket of Amazon's says it is in, if it is another one.
fn moved(answer: &Answer, bucket: &S3Bucket<'_>, region: &str) -> Option<String> {
    let named = answer.headers.get(REGION)?.to_str().ok()?;
    let is_other = bucket.endpoint.is_none() && !answer.status.is_success() && named != region;
    (is_other && is_region(named)).then(|| named.to_owned())
}

/// What reading and writing below a prefix needs, and nothing else.
fn policy(bucket: &S3Bucket<'_>, region: &str) -> String {
    let partition = match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let name = format!("arn:{partition}:s3:::{}", bucket.name);
    let slash = if bucket.prefix.is_empty() { "" } else { "/" };
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"],
                "Resource": name,
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": format!("{name}/{}{slash}*", bucket.prefix),
            },
        ],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    const BUCKET: S3Bucket<'_> = S3Bucket { name: "team", prefix: "ml/runs", region: None, endpoint: None };

    #[test]
    fn a_bucket_is_asked_where_it_is() {
        let url = |bucket, region| listing(&bucket, region).map(String::from);
        assert_eq!(
            url(BUCKET, "eu-west-1").unwrap(),
            "https://s3.eu-west-1.amazonaws.com/team?list-type=2&max-keys=1&prefix=ml%2Fruns"
        );
        assert!(
            url(BUCKET, "cn-north-1").unwrap().starts_with("https://s3.cn-north-1.amazonaws.com.cn/team?")
        );
        let minio = S3Bucket { endpoint: Some("http://minio.ml:9000/s3/"), ..BUCKET };
        assert!(url(minio, "anything").unwrap().starts_with("http://minio.ml:9000/s3/team?list-type=2"));
        for (bucket, region) in [
            (BUCKET, "evil.example/"),
            (S3Bucket { endpoint: Some("minio:9000"), ..BUCKET }, "us-east-1"),
            (S3Bucket { endpoint: Some("http://me:pw@minio"), ..BUCKET }, "us-east-1"),
            (S3Bucket { endpoint: Some("minio"), ..BUCKET }, "us-east-1"),
        ] {
            assert!(listing(&bucket, region).is_err(), "{bucket:?} {region}");
        }
    }

    #[test]
    fn a_session_may_do_what_its_bucket_needs() {
        let made: serde_json::Value = serde_json::from_str(&policy(&BUCKET, "eu-west-1")).unwrap();
        assert_eq!(made["Statement"][0]["Resource"], "arn:aws:s3:::team");
        assert_eq!(made["Statement"][1]["Resource"], "arn:aws:s3:::team/ml/runs/*");
        let whole = S3Bucket { prefix: "", ..BUCKET };
        let made: serde_json::Value = serde_json::from_str(&policy(&whole, "us-gov-west-1")).unwrap();
        assert_eq!(made["Statement"][1]["Resource"], "arn:aws-us-gov:s3:::team/*");
        assert!(made.to_string().len() < 2048, "the service's limit");
    }

    #[test]
    fn keys_say_how_long_they_are_good() {
        let keys = |session: Option<&str>, expires: Option<&str>| Keys {
            id: "AKIA".to_owned(),
            secret: Secret::new("s"),
            session: session.map(Secret::new),
            expires: expires.map(|text| text.parse().unwrap()),
        };
        let lifetime = |keys: Keys| keys.into_storage().1;
        let then = "2030-01-01T00:00:00Z";
        assert_eq!(lifetime(keys(None, None)), Lifetime::Unlimited);
        assert_eq!(lifetime(keys(Some("t"), None)), Lifetime::Unknown);
        assert_eq!(lifetime(keys(Some("t"), Some(then))), Lifetime::Until(then.parse().unwrap()));
    }
}
