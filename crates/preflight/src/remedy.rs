//! What mends a refusal, in the words of whoever runs the registry.

use longshore_stack::Provider;

/// What a credential was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Pull,
    Push,
}

/// What gives a credential the permission. Sources: each provider's documentation of its roles.
pub(crate) fn grant(host: &str, permission: Permission) -> String {
    use Permission::{Pull, Push};
    let text = match (Provider::of(host), permission) {
        (Some(Provider::Ecr(_)), Pull) => {
            "allow the identity ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer \
             (the managed policy AmazonEC2ContainerRegistryReadOnly)"
        }
        (Some(Provider::Ecr(_)), Push) => {
            "allow the identity ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload, \
             ecr:BatchCheckLayerAvailability and ecr:PutImage (the managed policy \
             AmazonEC2ContainerRegistryPowerUser)"
        }
        (Some(Provider::EcrPublic), Pull) => "wait, or log in: anonymous pulls are limited",
        (Some(Provider::EcrPublic), Push) => {
            "allow the identity the managed policy AmazonElasticContainerRegistryPublicPowerUser"
        }
        (Some(Provider::ArtifactRegistry { .. } | Provider::Gcr), Pull) => {
            "grant the account the role roles/artifactregistry.reader"
        }
        (Some(Provider::ArtifactRegistry { .. }), Push) => {
            "grant the account the role roles/artifactregistry.writer on the repository"
        }
        (Some(Provider::Gcr), Push) => {
            "grant the account the role roles/artifactregistry.createOnPushWriter in the project"
        }
        (Some(Provider::Azure { .. }), Pull) => "assign the identity the role AcrPull on the registry",
        (Some(Provider::Azure { .. }), Push) => "assign the identity the role AcrPush on the registry",
        (Some(Provider::Github), Pull) => {
            "give the token the scope read:packages, and its account access to the package"
        }
        (Some(Provider::Github), Push) => {
            "give the token the scope write:packages, and its account write access to the package"
        }
        (Some(Provider::DockerHub), Pull) => "log in as somebody who may see the repository",
        (Some(Provider::DockerHub), Push) => {
            "use an access token with the permission Read & Write, of a member of the namespace"
        }
        (_, Pull) => return format!("ask whoever runs {host} for leave to pull"),
        (_, Push) => return format!("ask whoever runs {host} for leave to push"),
    };
    text.to_owned()
}

/// The command that creates a repository, where pushing does not.
pub(crate) fn create(host: &str, path: &str) -> Option<String> {
    match Provider::of(host)? {
        Provider::Ecr(ecr) => {
            Some(format!("aws ecr create-repository --repository-name {path} --region {}", ecr.region))
        }
        Provider::EcrPublic => {
            let name = path.split_once('/').map_or(path, |(_, name)| name);
            Some(format!("aws ecr-public create-repository --repository-name {name} --region us-east-1"))
        }
        Provider::ArtifactRegistry { location } => {
            let mut parts = path.split('/');
            let (project, name) = (parts.next()?, parts.next()?);
            Some(format!(
                "gcloud artifacts repositories create {name} --repository-format=docker \
                 --location={location} --project={project}"
            ))
        }
        _ => None,
    }
}

/// Where credentials for a host come from, when there are none or bad ones.
pub(crate) fn log_in(host: &str, origin: &str) -> String {
    match origin.strip_prefix("service connector ") {
        Some(name) => format!(
            "check it with `longshore service-connector verify {name}`, and correct it with \
             `longshore service-connector update {name} …`"
        ),
        None => format!(
            "log in (`docker login {host}`), or register a service connector and connect the container registry \
             to it (`longshore container-registry connect NAME --connector CONNECTOR`)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_is_told_from_its_look_alikes() {
        for (host, part) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "ecr:PutImage"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr:PutImage"),
            ("us-central1-docker.pkg.dev", "roles/artifactregistry.writer"),
            ("eu.gcr.io", "createOnPushWriter"),
            ("myregistry.azurecr.io", "AcrPush"),
            ("ghcr.io", "write:packages"),
            ("docker.io", "Read & Write"),
            ("evilazurecr.io", "ask whoever runs evilazurecr.io"),
            ("registry.internal:5000", "ask whoever runs"),
        ] {
            let remedy = grant(host, Permission::Push);
            assert!(remedy.contains(part), "{host}: {remedy}");
        }
    }

    #[test]
    fn a_repository_that_must_exist_has_its_command() {
        assert_eq!(
            create("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "team/app").unwrap(),
            "aws ecr create-repository --repository-name team/app --region eu-west-1"
        );
        assert_eq!(
            create("europe-docker.pkg.dev", "p/r/app").unwrap(),
            "gcloud artifacts repositories create r --repository-format=docker --location=europe --project=p"
        );
        assert_eq!(create("ghcr.io", "me/app"), None);
    }
}
