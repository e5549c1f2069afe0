//! The clouds of Microsoft: where each has its services.

use crate::HostPattern;

/// A cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cloud {
    Public,
    China,
    UsGovernment,
}

impl Cloud {
    /// The cloud of that name, as a connector's option has it.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "china" => Self::China,
            "us-government" => Self::UsGovernment,
            _ => Self::Public,
        }
    }

    /// The cloud of a registry.
    pub(crate) fn of(host: &str) -> Option<Self> {
        [Self::Public, Self::China, Self::UsGovernment]
            .into_iter()
            .find(|cloud| HostPattern::new(cloud.registries()).matches(host))
    }

    pub(crate) const fn registries(self) -> &'static str {
        match self {
            Self::Public => "*.azurecr.io",
            Self::China => "*.azurecr.cn",
            Self::UsGovernment => "*.azurecr.us",
        }
    }

    /// The Entra authority (the constants of `AzureAuthorityHosts` in Microsoft's SDKs).
    pub(crate) const fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::China => "https://login.chinacloudapi.cn",
            Self::UsGovernment => "https://login.microsoftonline.us",
        }
    }

    /// Azure Resource Manager.
    pub(crate) const fn resource_manager(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::China => "https://management.chinacloudapi.cn",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
        }
    }

    /// What tokens for Azure Machine Learning are asked for.
    pub(crate) const fn machine_learning(self) -> &'static str {
        match self {
            Self::Public => "https://ml.azure.com",
            Self::China => "https://ml.azure.cn",
            Self::UsGovernment => "https://ml.azure.us",
        }
    }

    /// The domain of storage accounts' blobs.
    pub(crate) const fn blobs(self) -> &'static str {
        match self {
            Self::Public => "blob.core.windows.net",
            Self::China => "blob.core.chinacloudapi.cn",
            Self::UsGovernment => "blob.core.usgovcloudapi.net",
        }
    }

    /// Where the regions of Azure Machine Learning answer.
    pub(crate) const fn machine_learning_regions(self) -> &'static str {
        match self {
            Self::Public => "*.api.azureml.ms",
            Self::China => "*.api.ml.azure.cn",
            Self::UsGovernment => "*.api.ml.azure.us",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_its_cloud() {
        assert_eq!(Cloud::of("my.azurecr.io"), Some(Cloud::Public));
        assert_eq!(Cloud::of("my.azurecr.cn"), Some(Cloud::China));
        assert_eq!(Cloud::of("my.azurecr.us"), Some(Cloud::UsGovernment));
        for host in ["evilazurecr.io", "azurecr.io", "my.azurecr.io.evil.com", "my.azurecr.io:443", "gcr.io"]
        {
            assert_eq!(Cloud::of(host), None, "{host}");
        }
    }
}
