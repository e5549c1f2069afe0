//! What all of AWS's APIs have in common.

use std::time::SystemTime;

use http::Method;
use url::Url;

use super::sign::{Keys, Signing, Unsigned, signature};
use crate::{
    AuthError, Environment,
    service::{Refusal, Request, Service},
};

/// Sends signed requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) service: Service,
    pub(super) environment: Environment,
    /// The connector's own endpoint, for all services.
    pub(super) endpoint_url: Option<String>,
}

impl Client {
    /// Where a service's API is: the connector's endpoint, that of the environment (`AWS_ENDPOINT_URL_STS` before
    /// `AWS_ENDPOINT_URL`), else AWS's own.
    pub(super) fn endpoint(&self, service: &str, own: impl FnOnce() -> String) -> String {
        let from = |name: &str| self.environment.get(name);
        self.endpoint_url
            .as_deref()
            .or_else(|| from(&format!("AWS_ENDPOINT_URL_{service}")))
            .or_else(|| from("AWS_ENDPOINT_URL"))
            .map_or_else(own, str::to_owned)
    }

    pub(super) fn url(&self, endpoint: &str) -> Result<Url, AuthError> {
        crate::connector::check_url(endpoint)
            .and_then(|()| Url::parse(endpoint).map_err(|error| error.to_string()))
            .map_err(|reason| {
                AuthError::unusable(
                    self.service.origin(),
                    format!("the endpoint {endpoint} {reason}"),
                    "correct endpoint_url, or AWS_ENDPOINT_URL in the environment",
                )
            })
    }

    /// A signed POST.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what is signed")]
    pub(super) fn signed(
        &self,
        what: &str,
        url: Url,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
        keys: &Keys,
        region: &str,
        service: &str,
    ) -> Result<Request, AuthError> {
        let unsent = Unsent { method: Method::POST, url, headers, body };
        self.signed_request(what, unsent, keys, region, (service, Signing::Common))
    }

    /// A signed request to a service, by the name that it is signed for.
    pub(super) fn signed_request(
        &self,
        what: &str,
        unsent: Unsent<'_>,
        keys: &Keys,
        region: &str,
        (service, signing): (&str, Signing),
    ) -> Result<Request, AuthError> {
        let Unsent { method, url, headers, body } = unsent;
        let unsigned = Unsigned { method: method.as_str(), url: url.as_str(), headers, body: &body, signing };
        let signed = signature(&unsigned, keys, region, service, SystemTime::now()).map_err(|error| {
            AuthError::unusable(
                self.service.origin(),
                format!("cannot {what}: the request cannot be signed: {error}"),
                "check the access key",
            )
        })?;
        let request = headers
            .iter()
            .fold(Request::new(method, url), |request, (name, value)| request.header(name, value));
        Ok(request.headers(signed).body(body))
    }
}

/// A request that is not signed yet.
pub(super) struct Unsent<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Vec<u8>,
}

/// What to do about a refusal, by AWS's own codes ("Common Errors"); `denied` if it is about a permission.
pub(super) fn aws_remedy(refusal: &Refusal, denied: &str) -> String {
    let expired =
        refusal.message.contains("Signature expired") || refusal.message.contains("not yet current");
    match refusal.code.as_str() {
        _ if expired => "the clock of this machine is off: set it right and try again".to_owned(),
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => {
            "the clock of this machine is off: set it right and try again".to_owned()
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" => {
            "the secret access key does not belong to the access key ID: update the connector with both".to_owned()
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            "the access key does not exist or is not active: create a new one in IAM, and update the connector with it; \
             check that it is of this partition"
                .to_owned()
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            "the session has expired: update the connector with new temporary credentials".to_owned()
        }
        "RegionDisabledException" => "enable the region for the account, or use another one".to_owned(),
        _ => denied.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_follow_the_code() {
        for (code, message, part) in [
            (
                "InvalidClientTokenId",
                "The security token included in the request is invalid",
                "create a new one",
            ),
            (
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match",
                "does not belong",
            ),
            ("SignatureDoesNotMatch", "Signature expired: 2023… is now earlier than 2024…", "clock"),
            ("ExpiredTokenException", "expired", "new temporary"),
            ("AccessDenied", "no", "ask your administrator"),
        ] {
            let refusal = Refusal { code: code.to_owned(), message: message.to_owned() };
            let remedy = aws_remedy(&refusal, "ask your administrator");
            assert!(remedy.contains(part), "{remedy}");
        }
    }

    #[test]
    fn the_connectors_endpoint_comes_first() {
        let environment: Environment =
            [("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_STS", "http://sts")]
                .into_iter()
                .collect();
        let service =
            Service::new(longshore_endpoint::Web::new(longshore_endpoint::WebConfig::default()), "x");
        let mut client = Client { service, environment, endpoint_url: None };
        assert_eq!(client.endpoint("STS", || unreachable!()), "http://sts");
        assert_eq!(client.endpoint("ECR", || unreachable!()), "http://all");
        client.endpoint_url = Some("http://mine".to_owned());
        assert_eq!(client.endpoint("STS", || unreachable!()), "http://mine");
        client = Client { environment: Environment::from_iter([("A", "b")]), endpoint_url: None, ..client };
        assert_eq!(client.endpoint("STS", || "own".to_owned()), "own");
    }
}
