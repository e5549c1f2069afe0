//! Connectors at work.

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use longshore_endpoint::{Hosts, Web};

use super::{Config, ConnectorType, password::Password};
use crate::{
    AuthError, Credential, CredentialSource, Environment, Found, HostPattern, Lease, Renewal, Secret, Target,
    aws::{self, AmazonAnswer, AmazonCall, AmazonRefusal, AmazonRequest, Aws, Ecr},
    azure::{self, Azure, AzureApi},
    cache::Cache,
    docker::canonical_host,
    gcp::{self, Google},
    service::Service,
    storage::{Lifetime, Storage, StorageCredential, StorageLease},
};

/// A connector: a configuration, and what it needs to get credentials.
#[derive(Debug)]
pub struct Connector {
    name: String,
    config: Config,
    service: Service,
    backend: Backend,
    /// The registry that it is connected to.
    bound: Option<String>,
    /// By the registry's host.
    leases: Cache<Lease>,
}

#[derive(Debug)]
enum Backend {
    Docker(Password),
    Gcp(Box<Google>),
    Azure(Azure),
    Aws(Aws),
}

/// Whether a store is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Probe {
    No,
    Yes,
}

/// Who a connector's credentials belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account, as its service names it: an email address, an ARN, a user name, a client ID.
    pub account: String,
    /// When the credentials that were got stop being accepted, if that is known.
    pub expires: Option<Timestamp>,
    /// What stands behind this.
    pub proof: Proof,
}

/// What it means that a connector was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The service that judges the credentials accepted them.
    Accepted,
    /// The registry lets everyone in, so nothing says whether the password is right.
    OpenRegistry,
    /// A docker connector that has no registry yet, and Docker Hub, which such credentials are for as a rule, could not be
    /// asked: they are judged when the connector is connected to a registry.
    NoRegistryYet,
}

/// A registry that a connector's credentials are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Its host.
    pub registry: String,
    /// The repositories that it was found to have; none where registries do not list them.
    pub repositories: Vec<String>,
}

impl Connector {
    /// A connector in the environment of this process. Registries are reached where `hosts` says.
    pub fn new(name: String, config: Config, web: Web, hosts: Hosts) -> Result<Self, AuthError> {
        Self::in_environment(name, config, web, hosts, Environment::process())
    }

    /// A connector in the environment given: what its implicit methods look into.
    pub fn in_environment(
        name: String,
        config: Config,
        web: Web,
        hosts: Hosts,
        environment: Environment,
    ) -> Result<Self, AuthError> {
        let service = Service::new(web, format!("service connector {name}"));
        let backend = match config.connector_type() {
            ConnectorType::Docker => Backend::Docker(Password::new(&config, service.clone(), hosts)),
            ConnectorType::Gcp => Backend::Gcp(Box::new(Google::new(&config, service.clone(), environment)?)),
            ConnectorType::Azure => Backend::Azure(Azure::new(&config, service.clone(), hosts, environment)),
            ConnectorType::Aws => Backend::Aws(Aws::new(&config, service.clone(), environment)),
        };
        Ok(Self { name, config, service, backend, bound: None, leases: Cache::default() })
    }

    /// The same, connected to a registry: what a docker connector without a registry of its own serves, and what
    /// [`Connector::resources`] looks into first.
    pub fn bound_to(mut self, host: &str) -> Self {
        self.bound = Some(canonical_host(host));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is configured with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether its credentials are for a registry. Hosts are compared label by label.
    pub fn serves(&self, host: &str) -> bool {
        let among =
            |patterns: &[&str]| patterns.iter().any(|pattern| HostPattern::new(pattern).matches(host));
        match &self.backend {
            Backend::Docker(_) => self.registry().is_some_and(|registry| registry == canonical_host(host)),
            Backend::Gcp(_) => among(&gcp::HOSTS),
            Backend::Azure(_) => among(&azure::HOSTS),
            Backend::Aws(_) => aws::RegistryHost::parse(host).is_some(),
        }
    }

    /// The registry of a docker connector: its own, or the one that it is connected to.
    fn registry(&self) -> Option<String> {
        self.config.text("registry").map(canonical_host).or_else(|| self.bound.clone())
    }

    /// ECR's API for a registry, with the connector's credentials; none if the connector or the registry is not AWS's.
    pub fn ecr(&self, host: &str) -> Option<Ecr<'_>> {
        match &self.backend {
            Backend::Aws(aws) => Some(aws.ecr(aws::RegistryHost::parse(host)?)),
            _ => None,
        }
    }

    /// Calls an API of Amazon's, with the connector's credentials: what it answered, or what it refused with.
    pub async fn call_amazon(
        &self,
        call: &AmazonCall<'_>,
    ) -> Result<Result<serde_json::Value, AmazonRefusal>, AuthError> {
        match &self.backend {
            Backend::Aws(aws) => aws.call(call).await,
            _ => Err(self.not_amazons(call.what)),
        }
    }

    /// Sends a request to an API of Amazon's that speaks REST, with the connector's credentials. A refusal is an answer, too.
    pub async fn send_to_amazon(&self, request: &AmazonRequest<'_>) -> Result<AmazonAnswer, AuthError> {
        match &self.backend {
            Backend::Aws(aws) => aws.send(request).await,
            _ => Err(self.not_amazons(request.what)),
        }
    }

    fn not_amazons(&self, what: &str) -> AuthError {
        AuthError::unusable(
            self.service.origin(),
            format!("it cannot {what}: it is of type {}", self.config.connector_type()),
            "use a connector of type aws",
        )
    }

    /// An access token for an API of Google's cloud, by its host: `us-central1-aiplatform.googleapis.com`.
    pub async fn google_access_token(&self, host: &str) -> Result<Secret, AuthError> {
        let Backend::Gcp(google) = &self.backend else {
            return Err(AuthError::unusable(
                self.service.origin(),
                format!("it has no access token for {host}: it is of type {}", self.config.connector_type()),
                "use a connector of type gcp",
            ));
        };
        if !gcp::APIS.iter().any(|api| HostPattern::new(api).matches(host)) {
            return Err(AuthError::unusable(
                self.service.origin(),
                format!("Google's access tokens are not for {host}: they are for {}", gcp::APIS.join(", ")),
                "check the host's name",
            ));
        }
        Ok(google.token().await?.secret)
    }

    /// An API of Google's cloud refused the access token: the next one must not come from memory.
    pub fn forget_google_access_token(&self) {
        if let Backend::Gcp(google) = &self.backend {
            google.forget();
        }
    }

    /// The URL of Azure Resource Manager in the connector's cloud; none if the connector is not Azure's.
    pub fn azure_resource_manager(&self) -> Option<&str> {
        match &self.backend {
            Backend::Azure(azure) => Some(azure.resource_manager(&self.config)),
            _ => None,
        }
    }

    /// Whether a host is a region of Azure Machine Learning in the connector's cloud, and may be sent its tokens:
    /// `westeurope.api.azureml.ms`.
    pub fn serves_azure_machine_learning(&self, host: &str) -> bool {
        matches!(&self.backend, Backend::Azure(azure) if azure.is_machine_learning(host))
    }

    /// An access token for one of Azure's APIs.
    pub async fn azure_access_token(&self, api: AzureApi) -> Result<Secret, AuthError> {
        let Backend::Azure(azure) = &self.backend else {
            return Err(AuthError::unusable(
                self.service.origin(),
                format!("it has no access token of Azure's: it is of type {}", self.config.connector_type()),
                "use a connector of type azure",
            ));
        };
        Ok(azure.api_token(api).await?.secret)
    }

    /// An API of Azure's refused the access token: the next one must not come from memory.
    pub fn forget_azure_access_tokens(&self) {
        if let Backend::Azure(azure) = &self.backend {
            azure.forget();
        }
    }

    /// A credential for an object store: of a session, an access token or a shared access signature, where the method can make
    /// them; the key itself where the method is a key.
    pub async fn storage(&self, storage: &Storage<'_>) -> Result<StorageLease, AuthError> {
        self.storage_lease(storage, Probe::No).await
    }

    /// The same, once the store has answered with the connector's credentials.
    pub async fn verified_storage(&self, storage: &Storage<'_>) -> Result<StorageLease, AuthError> {
        self.storage_lease(storage, Probe::Yes).await
    }

    async fn storage_lease(&self, storage: &Storage<'_>, probe: Probe) -> Result<StorageLease, AuthError> {
        let unusable =
            |what: String, remedy: &str| AuthError::unusable(self.service.origin(), what, remedy.to_owned());
        let (credential, lifetime) = match (&self.backend, storage) {
            (Backend::Aws(aws), Storage::S3(bucket)) => {
                let keys = aws.bucket_keys(bucket).await?;
                if probe == Probe::Yes {
                    aws.probe(bucket, &keys).await?;
                }
                keys.into_storage()
            }
            (Backend::Gcp(google), Storage::Gcs(bucket)) => {
                // One that is good for all of its time.
                google.forget();
                let token = google.token().await?;
                if probe == Probe::Yes {
                    gcp::probe(&self.service, bucket, &token.secret, &google.account().await?).await?;
                }
                let lifetime = token.expires.map_or(Lifetime::Unknown, Lifetime::Until);
                (StorageCredential::Google(token.secret), lifetime)
            }
            (Backend::Azure(_), Storage::Azure(_)) if self.config.method().name == "access-token" => {
                return Err(unusable(
                    format!(
                        "it has no credentials for {}: its access token is for Azure Resource Manager",
                        storage.uri()
                    ),
                    "use a connector with the method service-principal, workload-identity or implicit",
                ));
            }
            (Backend::Azure(azure), Storage::Azure(container)) => {
                if probe == Probe::Yes {
                    azure.probe(container).await?;
                }
                let (signature, ends) = azure.signature(container).await?;
                let host = azure.other_blob_host(container);
                (StorageCredential::Azure { signature, host }, Lifetime::Until(ends))
            }
            _ => {
                return Err(unusable(
                    format!(
                        "it has no credentials for {}: it is of type {}",
                        storage.uri(),
                        self.config.connector_type()
                    ),
                    "connect the artifact store to a connector of its own kind",
                ));
            }
        };
        Ok(StorageLease { credential, lifetime, origin: self.service.origin().to_owned() })
    }

    /// Asks the service that judges the credentials whether they are good.
    ///
    /// - gcp: a token is got. With a key that is deleted or disabled, none is.
    /// - azure: a token is got; for a registry it is also exchanged there, which needs no role.
    /// - aws: `sts:GetCallerIdentity`; for a registry also `ecr:GetAuthorizationToken`.
    /// - docker: the registry is asked what it wants. If that is a token, its token service must give one for the name and
    ///   password, and the registry accept it; else the registry itself must accept the name and password. A registry
    ///   that lets everyone in is sent them too: some refuse wrong passwords also then. If it does not, that is what
    ///   [`Identity::proof`] says.
    pub async fn verify(&self, target: Option<Target<'_>>) -> Result<Identity, AuthError> {
        if let Some(target) = target
            && !self.serves(target.host)
            && !(matches!(self.backend, Backend::Docker(_)) && self.registry().is_none())
        {
            return Err(AuthError::unusable(
                self.service.origin(),
                format!(
                    "it has no credentials for {}: {} connectors are for {}",
                    target.host,
                    self.config.connector_type(),
                    self.scope()
                ),
                "connect the registry to a connector of its own kind",
            ));
        }
        let host = target.map(|target| target.host);
        match &self.backend {
            Backend::Docker(password) => {
                let registry = host.map(canonical_host).or_else(|| self.registry());
                match registry {
                    Some(registry) => password.verify(&registry).await,
                    None => password.verify_at_docker_hub().await,
                }
            }
            Backend::Gcp(google) => {
                google.forget();
                let expires = google.token().await?.expires;
                Ok(Identity { account: google.account().await?, expires, proof: Proof::Accepted })
            }
            Backend::Azure(azure) => azure.verify(host).await,
            Backend::Aws(aws) => aws.verify(host).await,
        }
    }

    /// The registries and repositories that the credentials reach, by the cloud's own listing.
    pub async fn resources(&self) -> Result<Vec<Resource>, AuthError> {
        match &self.backend {
            Backend::Docker(_) => Ok(self
                .registry()
                .map(|registry| Resource { registry, repositories: Vec::new() })
                .into_iter()
                .collect()),
            Backend::Gcp(google) => gcp::resources(google, &self.config, &self.service).await,
            Backend::Azure(azure) => azure.resources(&self.config, self.bound.as_deref()).await,
            Backend::Aws(aws) => aws.resources(self.bound.as_deref()).await,
        }
    }

    /// What the connector's credentials are for, in words.
    fn scope(&self) -> String {
        match &self.backend {
            Backend::Docker(_) => {
                self.registry().unwrap_or_else(|| "the registry that they are connected to".to_owned())
            }
            Backend::Gcp(_) => gcp::HOSTS.join(", "),
            Backend::Azure(_) => azure::HOSTS.join(", "),
            Backend::Aws(_) => "<account>.dkr.ecr.<region>.amazonaws.com and public.ecr.aws".to_owned(),
        }
    }

    /// Whether it gets new credentials by itself: not from a token that was given to it.
    fn renewal(&self) -> Renewal {
        match self.config.method().name {
            "oauth2-token" | "access-token" | "sts-token" => Renewal::ByHand,
            _ => Renewal::Automatic,
        }
    }

    async fn lease(&self, host: &str) -> Result<Lease, AuthError> {
        let (credential, expires) = match &self.backend {
            Backend::Docker(password) => (password.credential(), None),
            Backend::Gcp(google) => {
                let token = google.token().await?;
                let credential =
                    Credential::Basic { username: gcp::USERNAME.to_owned(), password: token.secret };
                (credential, token.expires)
            }
            Backend::Azure(azure) => {
                let token = azure.refresh_token(host).await?;
                let credential =
                    Credential::IdentityToken { username: azure::USERNAME.to_owned(), token: token.secret };
                (credential, token.expires)
            }
            Backend::Aws(aws) => {
                let Some(registry) = aws::RegistryHost::parse(host) else { return Ok(Lease::anonymous()) };
                aws.ecr(registry).authorization_token().await?
            }
        };
        Ok(Lease { credential, expires, renewal: self.renewal(), origin: self.service.origin().to_owned() })
    }
}

impl CredentialSource for Connector {
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        async move {
            if !self.serves(target.host) {
                return Ok(Found::Nothing);
            }
            let host = canonical_host(target.host);
            Ok(Found::Lease(self.leases.get(host.clone(), self.lease(&host)).await?))
        }
        .boxed()
    }

    fn forget(&self, target: Target<'_>) {
        if !self.serves(target.host) {
            return;
        }
        self.leases.forget(&canonical_host(target.host));
        match &self.backend {
            Backend::Docker(_) => {}
            Backend::Gcp(google) => google.forget(),
            Backend::Azure(azure) => azure.forget(),
            Backend::Aws(aws) => aws.forget(),
        }
    }
}
