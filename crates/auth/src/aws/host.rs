//! What the host of an ECR registry says: account, region, and where its API is.

/// A registry's host, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryHost {
    /// The account; none for the public registry, which all accounts share, and for that of whoever asks.
    pub account: Option<String>,
    /// The region that its API is called in.
    pub region: String,
    form: Form,
    suffix: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Private,
    Fips,
    DualStack,
    DualStackFips,
    Public,
}

/// Of the two partitions with registries for everyone: global and China.
const SUFFIXES: [&str; 2] = ["amazonaws.com", "amazonaws.com.cn"];

impl RegistryHost {
    /// Reads a host: `123456789012.dkr.ecr.eu-west-1.amazonaws.com`, `….dkr.ecr-fips.…`, `….amazonaws.com.cn`,
    /// `123456789012.dkr-ecr.eu-west-1.on.aws` (dual stack), `public.ecr.aws` (Amazon ECR user guide, "Private
    /// registries"). `None` for every other host.
    pub fn parse(host: &str) -> Option<Self> {
        Self::read(host).ok()
    }

    /// The same; the error is the reason why it is not such a host.
    pub fn read(host: &str) -> Result<Self, String> {
        const FORM: &str = "its hosts are <account>.dkr.ecr.<region>.amazonaws.com";
        const DUAL_STACK: [&str; 2] = ["on.aws", "on.amazonwebservices.com.cn"];
        let host = host.to_ascii_lowercase();
        if host == "public.ecr.aws" {
            // The public registry's API is in this region only.
            let region = "us-east-1".to_owned();
            return Ok(Self { account: None, region, form: Form::Public, suffix: SUFFIXES[0] });
        }
        let (account, rest) = host.split_once('.').ok_or(FORM)?;
        let services = [
            ("dkr.ecr.", Form::Private, SUFFIXES),
            ("dkr.ecr-fips.", Form::Fips, SUFFIXES),
            ("dkr-ecr.", Form::DualStack, DUAL_STACK),
            ("dkr-ecr-fips.", Form::DualStackFips, DUAL_STACK),
        ];
        let found = services.iter().find_map(|(service, form, domains)| {
            let (region, domain) = rest.strip_prefix(service)?.split_once('.')?;
            domains.contains(&domain).then_some((*form, region, domain, domains))
        });
        let (form, region, domain, domains) = found.ok_or(FORM)?;
        if account.len() != 12 || !account.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(format!("the account `{account}` is not 12 digits"));
        }
        if !is_region(region) {
            return Err(format!("`{region}` is not a region such as eu-west-1"));
        }
        let suffix = suffix_of(region);
        let expected = if suffix == SUFFIXES[1] { domains[1] } else { domains[0] };
        if domain != expected {
            return Err(format!("the region {region} is served below `.{expected}`, not `.{domain}`"));
        }
        Ok(Self { account: Some(account.to_owned()), region: region.to_owned(), form, suffix })
    }

    /// The registry of whoever asks, in a region.
    pub(crate) fn of_region(region: &str) -> Self {
        Self { account: None, region: region.to_owned(), form: Form::Private, suffix: suffix_of(region) }
    }

    /// Whether it is the registry that all accounts share.
    pub fn is_public(&self) -> bool {
        self.form == Form::Public
    }

    /// Where its API is, by AWS's own rules.
    pub(crate) fn endpoint(&self) -> String {
        let (region, china) = (&self.region, self.suffix == SUFFIXES[1]);
        let dual = if china { "api.amazonwebservices.com.cn" } else { "api.aws" };
        match self.form {
            Form::Private => format!("https://api.ecr.{region}.{}", self.suffix),
            Form::Fips => format!("https://ecr-fips.{region}.{}", self.suffix),
            Form::DualStack => format!("https://ecr.{region}.{dual}"),
            Form::DualStackFips => format!("https://ecr-fips.{region}.{dual}"),
            Form::Public => "https://api.ecr-public.us-east-1.amazonaws.com".to_owned(),
        }
    }
}

/// `us-east-1`, `us-gov-west-1`, `cn-north-1`: words, then a number.
pub(crate) fn is_region(text: &str) -> bool {
    let mut parts: Vec<_> = text.split('-').collect();
    let number = parts.pop().is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    number && parts.len() >= 2 && parts.iter().all(word)
}

/// The domain of a region's services: those in China have their own.
pub(crate) fn suffix_of(region: &str) -> &'static str {
    if region.starts_with("cn-") { SUFFIXES[1] } else { SUFFIXES[0] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_say_account_region_and_endpoint() {
        for (host, region, endpoint) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "eu-west-1",
                "https://api.ecr.eu-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
                "https://api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "https://ecr-fips.us-gov-west-1.amazonaws.com",
            ),
            ("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2", "https://ecr.us-west-2.api.aws"),
            ("123456789012.dkr-ecr-fips.us-west-2.on.aws", "us-west-2", "https://ecr-fips.us-west-2.api.aws"),
            ("public.ecr.aws", "us-east-1", "https://api.ecr-public.us-east-1.amazonaws.com"),
        ] {
            let read = RegistryHost::parse(host).unwrap();
            assert_eq!((read.region.as_str(), read.endpoint().as_str()), (region, endpoint));
            assert_eq!(read.account.is_none(), read.is_public());
        }
    }

    #[test]
    fn look_alikes_are_not_read() {
        for host in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.com",
            "123456789012.dkr.ecr.eu-west-1.evilamazonaws.com",
            "evil.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.evil.amazonaws.com",
            "123456789012.dkr.s3.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "evil.public.ecr.aws",
            "public.ecr.aws.evil.com",
        ] {
            assert_eq!(RegistryHost::parse(host), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn every_registry_is_read_and_nothing_around_it(
            account in "[0-9]{12}", region in "[abd-z][a-z]-[a-z]{4,9}-[1-9]", more in "[a-z0-9.-]{1,10}"
        ) {
            let host = format!("{account}.dkr.ecr.{region}.amazonaws.com");
            let read = RegistryHost::parse(&host).unwrap();
            prop_assert_eq!((read.account.as_deref(), &read.region), (Some(account.as_str()), &region));
            prop_assert_eq!(RegistryHost::parse(&format!("{host}.{more}x")), None);
            prop_assert_eq!(RegistryHost::parse(&format!("{more}.{host}")), None);
        }

        #[test]
        fn no_host_makes_it_panic(host in "\\PC{0,60}") {
            if let Some(read) = RegistryHost::parse(&host) {
                prop_assert!(url::Url::parse(&read.endpoint()).is_ok());
            }
        }
    }
}
