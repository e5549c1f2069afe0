//! Calls of Amazon's APIs that speak JSON (protocol 1.1), signed.

use serde_json::Value;

use super::{
    Aws,
    client::aws_remedy,
    host::{is_region, suffix_of},
};
use crate::AuthError;

/// An API of Amazon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmazonApi {
    /// `SageMaker`, version 2017-07-24.
    SageMaker,
    /// `CloudWatch` Logs, version 2014-03-28.
    Logs,
}

/// A call of an API.
#[derive(Clone, Copy, Debug)]
pub struct AmazonCall<'a> {
    /// What it is for, after "cannot".
    pub what: &'a str,
    /// The API.
    pub api: AmazonApi,
    /// The region.
    pub region: &'a str,
    /// The action: `CreatePipeline`.
    pub action: &'a str,
    /// What it is given.
    pub input: &'a Value,
}

/// What an API says that does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmazonRefusal {
    /// A word for programs: `ValidationException`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl AmazonApi {
    /// The API's name in the hosts of regions.
    const fn host(self) -> &'static str {
        match self {
            Self::SageMaker => "api.sagemaker",
            Self::Logs => "logs",
        }
    }

    /// The name that requests are signed for, and that policies have before a colon.
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::SageMaker => "sagemaker",
            Self::Logs => "logs",
        }
    }

    /// The ending of the environment variable that names its endpoint.
    const fn variable(self) -> &'static str {
        match self {
            Self::SageMaker => "SAGEMAKER",
            Self::Logs => "CLOUDWATCH_LOGS",
        }
    }

    const fn target(self) -> &'static str {
        match self {
            Self::SageMaker => "SageMaker",
            Self::Logs => "Logs_20140328",
        }
    }
}

impl Aws {
    /// What the API answered, or its refusal. A refusal of the credentials themselves is an error.
    pub(crate) async fn call(
        &self,
        call: &AmazonCall<'_>,
    ) -> Result<Result<Value, AmazonRefusal>, AuthError> {
        let AmazonCall { what, api, region, action, input } = *call;
        let client = &self.client;
        // It becomes a part of a host's name.
        if !is_region(region) {
            return Err(AuthError::unusable(
                client.service.origin(),
                format!("cannot {what}: `{region}` is not a region such as eu-west-1"),
                "correct the region",
            ));
        }
        let own = || format!("https://{}.{region}.{}", api.host(), suffix_of(region));
        let url = client.url(&client.endpoint(api.variable(), own))?;
        let keys = self.keys(region).await?;
        let target = format!("{}.{action}", api.target());
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let body = input.to_string().into_bytes();
        let request = client.signed(what, url, &headers, body, &keys, region, api.signing_name())?;
        let answer = client.service.send(what, request).await?;
        let refused = answer.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy = aws_remedy(&refusal, "");
            if remedy.is_empty() {
                Ok(AmazonRefusal { code: refusal.code, message: refusal.message })
            } else {
                Err(answer.refused(what, &refusal, remedy))
            }
        });
        match refused {
            // Actions that say nothing answer with nothing.
            Ok(answer) if answer.text().trim().is_empty() => Ok(Ok(Value::Null)),
            Ok(answer) => Ok(Ok(answer.parse(what)?)),
            Err(refusal) => refusal.map(Err),
        }
    }
}
