//! The URIs of container registries: `host[:port][/namespace]`, and which of them a flavor is for.

use std::{fmt, str::FromStr};

use longshore_oci::{ReferenceError, Repository};
use serde::{Serialize, Serializer};

use crate::{
    Provider, RegistryFlavor,
    provider::{DOCKER_HUB, Ecr},
};

/// Where the images of a container registry are: `gcr.io/my-project`. In lower case; Docker Hub is `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistryUri {
    host: String,
    namespace: Option<String>,
}

/// Why a text is not the URI of a registry, or not of that flavor.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It is no URI of a registry at all.
    #[error("`{uri}` is not the URI of a container registry: {reason}")]
    Malformed {
        /// The text.
        uri: String,
        /// Why not, and what to write.
        reason: String,
    },
    /// It has a user's name or password. The text is not repeated.
    #[error(
        "the URI has credentials (`…@`), which would be stored and shown; leave them out and use a service connector, \
         `longshore service-connector register … --type docker`, or the docker configuration"
    )]
    Credentials,
    /// It is not of the flavor's provider, or lacks a part.
    #[error("`{uri}` is not a registry of flavor {flavor}: {reason}")]
    Flavor {
        /// The URI.
        uri: String,
        /// The flavor.
        flavor: &'static str,
        /// Why not, and what to write.
        reason: String,
    },
}

impl RegistryUri {
    /// The host, with its port if it has one: what credentials are looked up by.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What all repositories in it begin with.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Who serves it, if that is a provider with a flavor of its own.
    pub fn provider(&self) -> Option<Provider> {
        Provider::of(&self.host)
    }

    /// The repository of that name in it.
    pub fn repository(&self, name: &str) -> Result<Repository, ReferenceError> {
        format!("{self}/{name}").parse()
    }

    /// Whether a repository is in it: `gcr.io/project` does not hold `gcr.io/project-of-others/x`.
    pub fn contains(&self, repository: &Repository) -> bool {
        let below = |namespace: &str| {
            repository.path().strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
        };
        repository.host() == self.host && self.namespace().is_none_or(below)
    }
}

impl fmt::Display for RegistryUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl Serialize for RegistryUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for RegistryUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let malformed = |reason: String| UriError::Malformed { uri: text.to_owned(), reason };
        if text.contains('@') {
            return Err(UriError::Credentials);
        }
        if text.is_empty() {
            return Err(malformed("it is empty; write e.g. docker.io/myusername".to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let rest = rest.trim_end_matches('/');
            return Err(malformed(format!("it has a scheme; leave out `{scheme}://`: {rest}")));
        }
        if text.contains(char::is_whitespace) {
            return Err(malformed("it has a space; write host[:port][/namespace]".to_owned()));
        }
        let trimmed = text.trim_end_matches('/');
        let (host, namespace) = match trimmed.split_once('/') {
            Some((host, namespace)) => (host, Some(namespace)),
            None => (trimmed, None),
        };
        let mut host = host.to_ascii_lowercase();
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(malformed(format!(
                "it does not begin with a host; for Docker Hub write docker.io/{}",
                trimmed.trim_start_matches('/')
            )));
        }
        if DOCKER_HUB.contains(&host.as_str()) {
            DOCKER_HUB[0].clone_into(&mut host);
        }
        if let Some(namespace) = namespace.filter(|namespace| namespace.contains(':')) {
            let (repository, tag) = namespace.split_once(':').unwrap_or_default();
            return Err(malformed(format!(
                "it has a tag; a registry is for many images: leave out `:{tag}`, or `/{repository}:{tag}`"
            )));
        }
        // What a repository in it would be called is checked as such.
        match format!("{host}/{}/x", namespace.unwrap_or("x")).parse::<Repository>() {
            Ok(_) => Ok(Self { host, namespace: namespace.map(str::to_owned) }),
            Err(ReferenceError::Host { .. }) => {
                Err(malformed(format!("`{host}` is not a host name with an optional :port")))
            }
            Err(ReferenceError::TooLong(_)) => Err(malformed("it is longer than 250 characters".to_owned())),
            Err(_) => {
                let namespace = namespace.unwrap_or_default();
                let lower = namespace.to_ascii_lowercase();
                let remedy = if format!("{host}/{lower}/x").parse::<Repository>().is_ok() {
                    format!("write {host}/{lower}")
                } else {
                    "it has lower-case letters and digits, separated by single `.`, one or two `_`, or dashes"
                        .to_owned()
                };
                Err(malformed(format!("`{namespace}` is not a namespace: {remedy}")))
            }
        }
    }
}

impl RegistryFlavor {
    /// Checks that a registry is one of this flavor and that nothing is missing from its URI.
    pub fn check(self, uri: &RegistryUri) -> Result<(), UriError> {
        let refuse =
            |reason: String| Err(UriError::Flavor { uri: uri.to_string(), flavor: self.as_str(), reason });
        if self == Self::Default {
            return Ok(());
        }
        let provider = match uri.provider() {
            Some(provider) if provider.flavor() == self => provider,
            Some(other) => {
                return refuse(format!("it is {other}; use --flavor={}", other.flavor().as_str()));
            }
            None => return refuse(self.whose_host_it_is_not(uri)),
        };
        let parts = uri.namespace().map_or(0, |namespace| namespace.split('/').count());
        let missing =
            |what: &str, example: &str| refuse(format!("{what} is missing; write {}/{example}", uri.host));
        match provider {
            Provider::DockerHub if parts == 0 => missing("your user name or organisation", "<user>"),
            Provider::Gcr if parts == 0 => missing("the project", "<project>"),
            Provider::ArtifactRegistry { .. } if parts == 0 => {
                missing("the project and the repository", "<project>/<repository>")
            }
            Provider::ArtifactRegistry { .. } if parts == 1 => {
                missing("the repository", &format!("{}/<repository>", uri.namespace().unwrap_or("<project>")))
            }
            Provider::EcrPublic if parts == 0 => missing("your registry's alias", "<alias>"),
            Provider::Github if parts == 0 => missing("the user or organisation", "<owner>"),
            _ => Ok(()),
        }
    }

    /// Why a host that no provider is known by is not one of this flavor's.
    fn whose_host_it_is_not(self, uri: &RegistryUri) -> String {
        const ANY: &str = "; for other registries use --flavor=default";
        let host = uri.host();
        let reason = match self {
            Self::Dockerhub => "Docker Hub is docker.io/<user>".to_owned(),
            Self::Gcp if host.ends_with(".pkg.dev") => {
                return "Artifact Registry keeps container images at <location>-docker.pkg.dev".to_owned();
            }
            Self::Gcp => "Google's registries are gcr.io, eu.gcr.io, us.gcr.io, asia.gcr.io and \
                          <location>-docker.pkg.dev"
                .to_owned(),
            Self::Azure => {
                "Azure's registries are <registry>.azurecr.io, .azurecr.cn and .azurecr.us".to_owned()
            }
            Self::Aws => Ecr::of(host).err().unwrap_or_default(),
            Self::Github => "GitHub's registry is ghcr.io/<owner>".to_owned(),
            Self::Default => String::new(),
        };
        reason + ANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RegistryFlavor::{Aws, Azure, Default, Dockerhub, Gcp, Github};

    /// What stands for a flavor: the URI as written, and as stored, or a part of the reason why it is refused.
    struct RowOf(RegistryFlavor, &'static str, Result<&'static str, &'static str>);

    impl RowOf {
        fn holds(&self) {
            let Self(flavor, text, expected) = self;
            let read = text.parse::<RegistryUri>().and_then(|uri| flavor.check(&uri).map(|()| uri));
            match (read, expected) {
                (Ok(uri), Ok(stored)) => assert_eq!(uri.to_string(), *stored, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}\nlacks: {part}");
                }
                (read, expected) => panic!("{flavor:?} {text}: {read:?}, expected {expected:?}"),
            }
        }
    }

    /// One test for each row.
    macro_rules! uris {
        ($($name:ident: $flavor:expr, $text:expr => $expected:expr;)*) => { $(
            #[test]
            fn $name() {
                RowOf($flavor, $text, $expected).holds();
            }
        )* };
    }

    uris! {
        a_host: Default, "registry.example.com" => Ok("registry.example.com");
        a_host_with_port: Default, "localhost:5000" => Ok("localhost:5000");
        an_address: Default, "127.0.0.1:5000/team" => Ok("127.0.0.1:5000/team");
        an_address_of_version_6: Default, "[::1]:5000/team" => Ok("[::1]:5000/team");
        a_host_alone_on_this_machine: Default, "localhost" => Ok("localhost");
        a_slash_at_the_end: Default, "docker.io/me/" => Ok("docker.io/me");
        hosts_have_no_case: Default, "Registry.Example.COM/team" => Ok("registry.example.com/team");
        deep_namespaces: Default, "registry.example.com/a/b/c" => Ok("registry.example.com/a/b/c");
        any_provider_has_the_default_flavor: Default, "docker.io/myusername" => Ok("docker.io/myusername");
        nothing: Default, "" => Err("it is empty");
        a_scheme: Default, "https://gcr.io/p/" => Err("leave out `https://`: gcr.io/p");
        words: Default, "not a uri at all !!" => Err("it has a space");
        a_line_end: Default, "gcr.io/p\n" => Err("it has a space");
        no_host: Default, "myusername" => Err("write docker.io/myusername");
        only_a_path: Default, "/me" => Err("write docker.io/me");
        a_tag: Default, "gcr.io/p/app:1.0" => Err("leave out `:1.0`");
        credentials: Default, "me:hunter2@gcr.io/p" => Err("has credentials (`…@`)");
        an_upper_case_namespace: Default, "ghcr.io/MyName" => Err("write ghcr.io/myname");
        a_strange_namespace: Default, "ghcr.io/my~name" => Err("`my~name` is not a namespace");
        an_empty_part: Default, "ghcr.io/a//b" => Err("`a//b` is not a namespace");
        a_strange_host: Default, "ex_ample.com/a" => Err("`ex_ample.com` is not a host name");
        a_strange_port: Default, "example.com:99999" => Err("is not a host name with an optional :port");
        a_query: Default, "example.com/a?b" => Err("`a?b` is not a namespace");

        hub: Dockerhub, "docker.io/myusername" => Ok("docker.io/myusername");
        hub_by_its_index: Dockerhub, "index.docker.io/myusername" => Ok("docker.io/myusername");
        hub_by_its_server: Dockerhub, "registry-1.docker.io/myusername" => Ok("docker.io/myusername");
        hub_without_user: Dockerhub, "docker.io" => Err("write docker.io/<user>");
        hub_elsewhere: Dockerhub, "quay.io/me" => Err("Docker Hub is docker.io/<user>; for other registries");
        hub_look_alike: Dockerhub, "evildocker.io/me" => Err("Docker Hub is docker.io");

        gcr: Gcp, "gcr.io/my-project" => Ok("gcr.io/my-project");
        gcr_in_europe: Gcp, "eu.gcr.io/my-project" => Ok("eu.gcr.io/my-project");
        gcr_in_america: Gcp, "us.gcr.io/my-project" => Ok("us.gcr.io/my-project");
        gcr_in_asia: Gcp, "asia.gcr.io/my-project" => Ok("asia.gcr.io/my-project");
        gcr_of_a_domain: Gcp, "gcr.io/example.com/my-project" => Ok("gcr.io/example.com/my-project");
        gcr_without_project: Gcp, "gcr.io" => Err("the project is missing; write gcr.io/<project>");
        gcr_look_alike: Gcp, "gcr.io.evil.com/p" => Err("Google's registries are gcr.io");
        gcr_elsewhere: Gcp, "africa.gcr.io/p" => Err("Google's registries are gcr.io");
        gar: Gcp, "us-central1-docker.pkg.dev/my-project/my-repo" => Ok("us-central1-docker.pkg.dev/my-project/my-repo");
        gar_of_many_regions: Gcp, "europe-docker.pkg.dev/p/r" => Ok("europe-docker.pkg.dev/p/r");
        gar_without_repository: Gcp, "us-docker.pkg.dev/p" => Err("write us-docker.pkg.dev/p/<repository>");
        gar_without_project: Gcp, "us-docker.pkg.dev" => Err("write us-docker.pkg.dev/<project>/<repository>");
        gar_of_python_packages: Gcp, "us-python.pkg.dev/p/r" => Err("<location>-docker.pkg.dev");
        hub_is_not_google: Gcp, "docker.io/foo" => Err("it is Docker Hub; use --flavor=dockerhub");

        acr: Azure, "myregistry.azurecr.io" => Ok("myregistry.azurecr.io");
        acr_with_namespace: Azure, "myregistry.azurecr.io/team" => Ok("myregistry.azurecr.io/team");
        acr_in_china: Azure, "myregistry.azurecr.cn" => Ok("myregistry.azurecr.cn");
        acr_of_the_government: Azure, "myregistry.azurecr.us" => Ok("myregistry.azurecr.us");
        acr_look_alike: Azure, "evilazurecr.io" => Err("<registry>.azurecr.io");
        acr_below_another: Azure, "myregistry.azurecr.io.evil.com" => Err("<registry>.azurecr.io");
        acr_without_name: Azure, "azurecr.io" => Err("<registry>.azurecr.io");
        acr_of_two_labels: Azure, "a.b.azurecr.io" => Err("<registry>.azurecr.io");
        ghcr_is_not_azure: Azure, "ghcr.io/me" => Err("it is GitHub's registry; use --flavor=github");

        ecr: Aws, "123456789012.dkr.ecr.us-east-1.amazonaws.com" => Ok("123456789012.dkr.ecr.us-east-1.amazonaws.com");
        ecr_with_namespace: Aws, "123456789012.dkr.ecr.us-east-1.amazonaws.com/team" => Ok("123456789012.dkr.ecr.us-east-1.amazonaws.com/team");
        ecr_in_china: Aws, "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn" => Ok("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn");
        ecr_of_the_government: Aws, "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com" => Ok("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com");
        ecr_dual_stack: Aws, "123456789012.dkr-ecr.eu-west-1.on.aws" => Ok("123456789012.dkr-ecr.eu-west-1.on.aws");
        ecr_dual_stack_fips: Aws, "123456789012.dkr-ecr-fips.us-east-1.on.aws" => Ok("123456789012.dkr-ecr-fips.us-east-1.on.aws");
        ecr_dual_stack_in_china: Aws, "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn" => Ok("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn");
        ecr_public: Aws, "public.ecr.aws/alias" => Ok("public.ecr.aws/alias");
        ecr_public_without_alias: Aws, "public.ecr.aws" => Err("write public.ecr.aws/<alias>");
        ecr_of_a_short_account: Aws, "12345.dkr.ecr.us-east-1.amazonaws.com" => Err("the account `12345` is not 12 digits");
        ecr_of_a_word: Aws, "12345678901a.dkr.ecr.us-east-1.amazonaws.com" => Err("is not 12 digits");
        ecr_without_region: Aws, "123456789012.dkr.ecr.amazonaws.com" => Err("<account>.dkr.ecr.<region>.amazonaws.com");
        ecr_of_a_strange_region: Aws, "123456789012.dkr.ecr.mars.amazonaws.com" => Err("`mars` is not a region");
        ecr_china_in_the_world: Aws, "123456789012.dkr.ecr.cn-north-1.amazonaws.com" => Err("is served below `.amazonaws.com.cn`");
        ecr_world_in_china: Aws, "123456789012.dkr.ecr.us-east-1.amazonaws.com.cn" => Err("is served below `.amazonaws.com`");
        ecr_look_alike: Aws, "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.com" => Err("<account>.dkr.ecr.<region>");
        ecr_with_port: Aws, "123456789012.dkr.ecr.us-east-1.amazonaws.com:444" => Err("<account>.dkr.ecr.<region>");
        a_word_is_not_amazon: Aws, "foo" => Err("it does not begin with a host");

        ghcr: Github, "ghcr.io/myusername" => Ok("ghcr.io/myusername");
        ghcr_without_owner: Github, "ghcr.io" => Err("write ghcr.io/<owner>");
        ghcr_elsewhere: Github, "github.com/me" => Err("GitHub's registry is ghcr.io/<owner>");
        ecr_is_not_github: Github, "public.ecr.aws/a" => Err("it is Amazon ECR Public; use --flavor=aws");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_read_again_as_it_is_stored(text in "[a-zA-Z0-9.:/@_ -]{0,40}|[a-zA-Z]{1,6}(\\.[a-z]{1,5}){0,2}(:[0-9]{1,5})?(/[a-z0-9._-]{1,6}){0,3}/?|\\PC{0,20}") {
            if let Ok(uri) = text.parse::<RegistryUri>() {
                let stored = uri.to_string();
                proptest::prop_assert_eq!(&stored.parse::<RegistryUri>().unwrap(), &uri);
                // Images in it have names, and are in it.
                proptest::prop_assert!(uri.contains(&uri.repository("a/b").unwrap()));
                if let Some(provider) = uri.provider() {
                    // No other flavor of a provider takes it.
                    for flavor in [Dockerhub, Gcp, Azure, Aws, Github] {
                        proptest::prop_assert!(flavor == provider.flavor() || flavor.check(&uri).is_err());
                    }
                }
            }
        }

        #[test]
        fn any_registry_of_amazon_says_its_account_and_region(
            account in "[0-9]{12}",
            region in "(us|eu|ap)-(gov-)?(north|west)-[1-9]",
            fips in "(-fips)?",
        ) {
            let uri: RegistryUri = format!("{account}.dkr.ecr{fips}.{region}.amazonaws.com").parse().unwrap();
            proptest::prop_assert_eq!(uri.provider(), Some(Provider::Ecr(Ecr { account, region })));
        }
    }

    #[test]
    fn the_region_and_the_account_are_read() {
        let uri: RegistryUri = "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com".parse().unwrap();
        let Some(Provider::Ecr(ecr)) = uri.provider() else { panic!("{uri:?}") };
        assert_eq!((ecr.account.as_str(), ecr.region.as_str()), ("123456789012", "us-gov-west-1"));
    }

    #[test]
    fn credentials_are_not_repeated() {
        let error = "me:hunter2@gcr.io/p".parse::<RegistryUri>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_registry_holds_what_is_below_it() {
        let uri: RegistryUri = "gcr.io/proj".parse().unwrap();
        for (image, inside) in [
            ("gcr.io/proj/x", true),
            ("gcr.io/project-evil/x", false),
            ("eu.gcr.io/proj/x", false),
            ("gcr.io/proj", false),
        ] {
            assert_eq!(uri.contains(&image.parse().unwrap()), inside, "{image}");
        }
        assert_eq!(uri.repository("a/b").unwrap().to_string(), "gcr.io/proj/a/b");
    }
}
