//! What this machine has: the places where AWS's SDKs look for keys, in their order.
//!
//! Environment, web identity, profile, container, instance. The first that has something is used; that it does not work
//! is an error, and not a reason to look further: credentials of somebody else would be a surprise.

use std::{path::Path, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jiff::Timestamp;
use longshore_endpoint::is_loopback;
use serde::Deserialize;
use tokio::process::Command;
use url::Url;

use super::{
    client::Client,
    profile::{Profiles, Role, SignOn, Source},
    sign::Keys,
    sts::Sts,
};
use crate::{
    AuthError, Problem, Secret,
    service::{Answer, Request},
};

/// Where the metadata service answers on every instance.
const METADATA_SERVICE: &str = "http://169.254.169.254";

/// Where the credentials of containers are answered for, besides this machine itself: ECS and EKS (Pod Identity).
const CONTAINER_SERVICES: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// How long a program that gives credentials may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_mins(1);

/// Looks for keys.
pub(super) struct Implicit<'a> {
    pub(super) client: &'a Client,
    /// The profile that the connector names.
    pub(super) profile: Option<&'a str>,
    /// Where STS is asked.
    pub(super) region: &'a str,
}

/// What containers, instances and programs answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: Secret,
    #[serde(alias = "SessionToken")]
    token: Option<Secret>,
    expiration: Option<Timestamp>,
}

impl From<Given> for Keys {
    fn from(given: Given) -> Self {
        Self {
            id: given.access_key_id,
            secret: given.secret_access_key,
            session: given.token.filter(|token| !token.expose().is_empty()),
            expires: given.expiration,
        }
    }
}

impl Implicit<'_> {
    fn env(&self, name: &str) -> Option<&str> {
        self.client.environment.get(name)
    }

    fn origin(&self) -> &str {
        self.client.service.origin()
    }

    fn unusable(&self, what: impl Into<String>, remedy: impl Into<String>) -> AuthError {
        AuthError::unusable(self.origin(), what, remedy)
    }

    /// The keys that there are.
    pub(super) async fn keys(&self) -> Result<Keys, AuthError> {
        if self.profile.is_none() {
            if let Some(keys) = self.keys_of_environment() {
                return Ok(keys);
            }
            if let (Some(arn), Some(file)) =
                (self.env("AWS_ROLE_ARN"), self.env("AWS_WEB_IDENTITY_TOKEN_FILE"))
            {
                let role = Role {
                    arn: arn.to_owned(),
                    session_name: self.env("AWS_ROLE_SESSION_NAME").map(str::to_owned),
                    external_id: None,
                    seconds: None,
                };
                return self.web_identity(&role, file).await;
            }
        }
        let profiles = Profiles::load(&self.client.environment, self.origin())?;
        let named = self.profile.or_else(|| self.env("AWS_PROFILE"));
        let profile = named.unwrap_or("default");
        if named.is_some() || profiles.has(profile) {
            let source = profiles.source(profile).map_err(|reason| {
                self.unusable(
                    format!("the profile '{profile}' cannot be used: {reason}"),
                    "correct ~/.aws/config, or name another profile",
                )
            })?;
            match source {
                Some(source) => return self.follow(source).await,
                None if named.is_some() => {
                    return Err(self.unusable(
                        format!("the profile '{profile}' has no credentials"),
                        "run `aws configure`, or name another profile",
                    ));
                }
                None => {}
            }
        }
        if let Some(url) = self.container_url()? {
            return self.container(url).await;
        }
        self.instance().await
    }

    /// The region that the environment or the profile names.
    pub(super) fn region(client: &Client, profile: Option<&str>) -> Result<Option<String>, AuthError> {
        let env = |name: &str| client.environment.get(name);
        if let Some(region) = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")) {
            return Ok(Some(region.to_owned()));
        }
        let profiles = Profiles::load(&client.environment, client.service.origin())?;
        let profile = profile.or_else(|| env("AWS_PROFILE")).unwrap_or("default");
        Ok(profiles.setting(profile, "region").map(str::to_owned))
    }

    fn keys_of_environment(&self) -> Option<Keys> {
        Some(Keys {
            id: self.env("AWS_ACCESS_KEY_ID")?.to_owned(),
            secret: Secret::new(self.env("AWS_SECRET_ACCESS_KEY")?),
            session: self.env("AWS_SESSION_TOKEN").map(Secret::new),
            expires: None,
        })
    }

    async fn follow(&self, source: Source) -> Result<Keys, AuthError> {
        // Roles upon roles are followed from the outside in, and assumed from the inside out.
        let (mut roles, mut innermost) = (Vec::new(), source);
        while let Source::Role { role, base } = innermost {
            roles.push(role);
            innermost = *base;
        }
        let mut keys = match innermost {
            Source::Keys { id, secret, session } => Keys { id, secret, session, expires: None },
            Source::WebIdentity { role, token_file } => self.web_identity(&role, &token_file).await?,
            Source::SingleSignOn(sign_on) => self.single_sign_on(&sign_on).await?,
            Source::Program(program) => self.program(&program).await?,
            Source::Environment => self.keys_of_environment().ok_or_else(|| {
                self.unusable(
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
                    "set them, as the profile says",
                )
            })?,
            Source::Container => {
                let url = self.container_url()?.ok_or_else(|| {
                    self.unusable(
                        "this is not a container of AWS's",
                        "correct the profile's credential_source",
                    )
                })?;
                self.container(url).await?
            }
            Source::Instance | Source::Role { .. } => self.instance().await?,
        };
        let sts = Sts { client: self.client, region: self.region };
        for role in roles.iter().rev() {
            keys = sts.assume_role(&keys, role, None).await?;
        }
        Ok(keys)
    }

    async fn web_identity(&self, role: &Role, file: &str) -> Result<Keys, AuthError> {
        let token = std::fs::read_to_string(file).map_err(|error| {
            self.unusable(
                format!("cannot read the web identity token from {file}: {error}"),
                "check that the pod's service account is set up for IAM roles",
            )
        })?;
        let token = Secret::new(token.trim());
        Sts { client: self.client, region: self.region }.assume_role_with_web_identity(role, &token).await
    }

    async fn single_sign_on(&self, sign_on: &SignOn) -> Result<Keys, AuthError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cached {
            access_token: Secret,
            expires_at: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            role_credentials: RoleCredentials,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RoleCredentials {
            access_key_id: String,
            secret_access_key: Secret,
            session_token: Secret,
            expiration: i64,
        }
        let again = format!("sign in with `aws sso login --profile {}`", sign_on.profile);
        // The cache's files are named so by the AWS CLI.
        let name = digest(&SHA1_FOR_LEGACY_USE_ONLY, sign_on.cache_key.as_bytes());
        let mut path = self.client.environment.home().unwrap_or_default().join(".aws/sso/cache");
        path.push(format!("{}.json", hex(name.as_ref())));
        let cached: Cached = std::fs::read(&path)
            .map_err(|_| {
                self.unusable(format!("nobody is signed in for the profile '{}'", sign_on.profile), &again)
            })
            .and_then(|bytes| {
                serde_json::from_slice(&bytes)
                    .map_err(|_| self.unusable(format!("{} is not a sign-in token", path.display()), &again))
            })?;
        // Old versions of the AWS CLI write `UTC` for `Z`.
        let expires = cached.expires_at.replace("UTC", "Z").parse::<Timestamp>();
        if expires.is_ok_and(|expires| expires <= Timestamp::now()) {
            return Err(self
                .unusable(format!("the sign-in of the profile '{}' has expired", sign_on.profile), &again));
        }
        let what = format!("get credentials of the role {} in {}", sign_on.role, sign_on.account);
        let endpoint = self.client.endpoint("SSO", || {
            format!("https://portal.sso.{}.{}", sign_on.region, super::host::suffix_of(&sign_on.region))
        });
        let mut url =
            self.client.url(&format!("{}/federation/credentials", endpoint.trim_end_matches('/')))?;
        url.query_pairs_mut()
            .append_pair("role_name", &sign_on.role)
            .append_pair("account_id", &sign_on.account);
        let request = Request::get(url).header("x-amz-sso_bearer_token", cached.access_token.expose());
        let answer = self
            .client
            .service
            .send(&what, request)
            .await?
            .accepted(|answer| answer.refused(&what, &answer.refusal(), &again))?;
        let given = answer.parse::<Answer>(&what)?.role_credentials;
        Ok(Keys {
            id: given.access_key_id,
            secret: given.secret_access_key,
            session: Some(given.session_token),
            expires: Timestamp::from_millisecond(given.expiration).ok(),
        })
    }

    async fn program(&self, program: &Secret) -> Result<Keys, AuthError> {
        let remedy = "run it by hand to see why";
        let name = program.expose().split_whitespace().next().unwrap_or_default().to_owned();
        // The shell, as AWS's own programs run it: the setting is a command line.
        let running = Command::new("sh")
            .arg("-c")
            .arg(program.expose())
            .env_clear()
            .envs(self.client.environment.variables())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PROGRAM_TIMEOUT, running)
            .await
            .map_err(|_| {
                let seconds = PROGRAM_TIMEOUT.as_secs();
                self.unusable(
                    format!("the credential_process {name} took longer than {seconds} seconds"),
                    remedy,
                )
            })?
            .map_err(|error| {
                self.unusable(format!("cannot run the credential_process {name}: {error}"), remedy)
            })?;
        if !output.status.success() {
            return Err(
                self.unusable(format!("the credential_process {name} failed: {}", output.status), remedy)
            );
        }
        serde_json::from_slice::<Given>(&output.stdout).map(Keys::from).map_err(|_| {
            self.unusable(format!("the credential_process {name} did not answer with credentials"), remedy)
        })
    }

    fn container_url(&self) -> Result<Option<Url>, AuthError> {
        let text = match (
            self.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            self.env("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("http://{}{path}", CONTAINER_SERVICES[0]),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return Ok(None),
        };
        let trusted = |url: &Url| {
            url.scheme() == "https"
                || url.host_str().is_some_and(|host| is_loopback(host) || CONTAINER_SERVICES.contains(&host))
        };
        match Url::parse(&text).ok().filter(trusted) {
            Some(url) => Ok(Some(url)),
            None => Err(self.unusable(
                "the URL of the container's credentials is neither https nor that of a service of AWS's",
                "correct AWS_CONTAINER_CREDENTIALS_FULL_URI",
            )),
        }
    }

    async fn container(&self, url: Url) -> Result<Keys, AuthError> {
        let what = "get the credentials of this container";
        let token = match (
            self.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            self.env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        ) {
            (Some(file), _) => {
                Some(std::fs::read_to_string(Path::new(file)).map(|text| text.trim().to_owned()).map_err(
                    |error| {
                        self.unusable(
                            format!("cannot read {file}: {error}"),
                            "check AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                        )
                    },
                )?)
            }
            (None, token) => token.map(str::to_owned),
        };
        let mut request = Request::get(url);
        if let Some(token) = &token {
            request = request.header("authorization", token);
        }
        let answer = self.client.service.nearby().send(what, request).await?.accepted(|answer| {
            answer.refused(what, &answer.refusal(), "check that the task or pod has a role")
        })?;
        Ok(answer.parse::<Given>(what)?.into())
    }

    /// The role of an instance (IMDSv2: a token first).
    async fn instance(&self) -> Result<Keys, AuthError> {
        let what = "get the credentials of this instance";
        let endpoint =
            self.env("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(METADATA_SERVICE).trim_end_matches('/');
        let nothing = |reason: String| {
            AuthError::refused(
                self.origin(),
                "there are no AWS credentials on this machine",
                format!("the environment and the shared configuration files have none, and {reason}"),
                "run `aws configure` or `aws sso login`, or use the method secret-key",
            )
        };
        if self.env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(nothing("AWS_EC2_METADATA_DISABLED is set".to_owned()));
        }
        let url = |path: &str| {
            Url::parse(&format!("{endpoint}/latest/{path}")).map_err(|_| {
                self.unusable(format!("{endpoint} is not a URL"), "correct AWS_EC2_METADATA_SERVICE_ENDPOINT")
            })
        };
        let service = self.client.service.nearby();
        let request = Request::new(http::Method::PUT, url("api/token")?)
            .header("x-aws-ec2-metadata-token-ttl-seconds", "300");
        let answer = match service.send(what, request).await {
            Err(AuthError { problem: Problem::Unreachable { .. }, .. }) => {
                return Err(nothing(format!("no instance metadata service answers at {endpoint}")));
            }
            answer => answer?,
        };
        let refused = |answer: &Answer| {
            answer.refused(
                what,
                &answer.refusal(),
                "attach a role to this instance, or use the method secret-key",
            )
        };
        let token = answer.accepted(refused)?.text();
        let get = |path: String| {
            let (service, url) = (&service, url(&path));
            let token = &token;
            async move {
                let request = Request::get(url?).header("x-aws-ec2-metadata-token", token);
                service.send(what, request).await?.accepted(refused)
            }
        };
        const ROLES: &str = "meta-data/iam/security-credentials/";
        let roles = get(ROLES.to_owned()).await?.text();
        let role = roles.lines().next().unwrap_or_default().trim();
        Ok(get(format!("{ROLES}{role}")).await?.parse::<Given>(what)?.into())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
