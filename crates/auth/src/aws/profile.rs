//! Profiles of the shared configuration files (AWS SDKs and Tools Reference Guide).

use std::collections::BTreeMap;

use configparser::ini::Ini;

use crate::{AuthError, Environment, Secret};

/// The files, read: settings by profile, and sign-in sessions by name.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    profiles: BTreeMap<String, Settings>,
    sessions: BTreeMap<String, Settings>,
}

type Settings = BTreeMap<String, Secret>;

/// Where the keys of a profile come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Keys { id: String, secret: Secret, session: Option<Secret> },
    Role { role: Role, base: Box<Source> },
    WebIdentity { role: Role, token_file: String },
    SingleSignOn(SignOn),
    Program(Secret),
    Environment,
    Instance,
    Container,
}

/// A role to assume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) session_name: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) seconds: Option<String>,
}

/// A sign-in through IAM Identity Center.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignOn {
    /// What the file of its token is named after: the session's name or, in the older form, the start URL.
    pub(crate) cache_key: String,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) role: String,
    pub(crate) profile: String,
}

impl Profiles {
    /// Reads the files that the environment names, or those in the home folder; either may be missing.
    pub(crate) fn load(environment: &Environment, origin: &str) -> Result<Self, AuthError> {
        let mut profiles = Self::default();
        for (variable, name, kind) in [
            ("AWS_CONFIG_FILE", "config", FileKind::Config),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials", FileKind::Credentials),
        ] {
            let path = environment
                .path(variable)
                .or_else(|| environment.home().map(|home| home.join(".aws").join(name)));
            let Some(path) = path else { continue };
            let unusable = |reason: String| {
                AuthError::unusable(
                    origin,
                    format!("cannot read {}: {reason}", path.display()),
                    "correct or remove it",
                )
            };
            match std::fs::read_to_string(&path) {
                Ok(text) => profiles.add(&text, kind).map_err(unusable)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unusable(error.to_string())),
            }
        }
        Ok(profiles)
    }

    fn add(&mut self, text: &str, kind: FileKind) -> Result<(), String> {
        let mut ini = Ini::new_cs();
        // The parser's message can show the line, which may have a key.
        ini.read(text.to_owned())
            .map_err(|_| "it is not in the form of AWS's configuration files".to_owned())?;
        for (section, values) in ini.get_map_ref() {
            let section = section.trim();
            let settings = match (kind, section.split_once(char::is_whitespace)) {
                (FileKind::Credentials, _) => self.profiles.entry(section.to_owned()),
                (FileKind::Config, Some(("profile", name))) => self.profiles.entry(name.trim().to_owned()),
                (FileKind::Config, Some(("sso-session", name))) => {
                    self.sessions.entry(name.trim().to_owned())
                }
                (FileKind::Config, None) if section == "default" => self.profiles.entry(section.to_owned()),
                _ => continue,
            };
            settings.or_default().extend(
                values.iter().filter_map(|(name, value)| Some((name.clone(), Secret::new(value.clone()?)))),
            );
        }
        Ok(())
    }

    /// A setting of a profile.
    pub(crate) fn setting(&self, profile: &str, name: &str) -> Option<&str> {
        self.profiles
            .get(profile)?
            .get(name)
            .map(|value| value.expose().trim())
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn has(&self, profile: &str) -> bool {
        self.profiles.contains_key(profile)
    }

    /// Where the keys of a profile come from; `None` if it says nothing about keys.
    pub(crate) fn source(&self, profile: &str) -> Result<Option<Source>, String> {
        self.follow(profile, &mut Vec::new())
    }

    fn follow(&self, profile: &str, seen: &mut Vec<String>) -> Result<Option<Source>, String> {
        if !self.has(profile) {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            return Err(format!("there is no profile '{profile}'; there are: {}", known.join(", ")));
        }
        let setting = |name: &str| self.setting(profile, name).map(str::to_owned);
        let again = seen.iter().any(|earlier| earlier == profile);
        seen.push(profile.to_owned());
        let Some(arn) = setting("role_arn").filter(|_| !again) else {
            return self.base(profile, again.then_some(seen));
        };
        let role = Role {
            arn,
            session_name: setting("role_session_name"),
            external_id: setting("external_id"),
            seconds: setting("duration_seconds"),
        };
        if setting("mfa_serial").is_some() {
            return Err(format!(
                "profile '{profile}' needs a one-time password, which nobody is asked for here"
            ));
        }
        if let Some(token_file) = setting("web_identity_token_file") {
            return Ok(Some(Source::WebIdentity { role, token_file }));
        }
        let base = match (setting("source_profile"), setting("credential_source").as_deref()) {
            (Some(source), _) => self
                .follow(&source, seen)?
                .ok_or_else(|| format!("profile '{source}', which '{profile}' builds on, has no keys"))?,
            (None, Some("Environment")) => Source::Environment,
            (None, Some("Ec2InstanceMetadata")) => Source::Instance,
            (None, Some("EcsContainer")) => Source::Container,
            (None, other) => {
                return Err(match other {
                    Some(other) => format!("profile '{profile}' has the unknown credential_source '{other}'"),
                    None => format!(
                        "profile '{profile}' has a role_arn but neither source_profile nor credential_source"
                    ),
                });
            }
        };
        Ok(Some(Source::Role { role, base: Box::new(base) }))
    }

    /// The keys that a profile has itself. A profile may name itself as the source of its role's keys.
    fn base(&self, profile: &str, looped: Option<&mut Vec<String>>) -> Result<Option<Source>, String> {
        let setting = |name: &str| self.setting(profile, name).map(str::to_owned);
        if let (Some(id), Some(secret)) = (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
            let session = setting("aws_session_token").map(Secret::new);
            return Ok(Some(Source::Keys { id, secret: Secret::new(secret), session }));
        }
        if let Some(seen) = looped {
            return Err(format!("the profiles {} build on each other in a circle", seen.join(", ")));
        }
        if let (Some(account), Some(role)) = (setting("sso_account_id"), setting("sso_role_name")) {
            let incomplete = || format!("profile '{profile}' is incomplete for single sign-on");
            let (cache_key, region) = match setting("sso_session") {
                Some(session) => {
                    let settings = self
                        .sessions
                        .get(&session)
                        .ok_or_else(|| format!("there is no sso-session '{session}'"))?;
                    let region =
                        settings.get("sso_region").ok_or_else(incomplete)?.expose().trim().to_owned();
                    (session, region)
                }
                None => setting("sso_start_url").zip(setting("sso_region")).ok_or_else(incomplete)?,
            };
            let profile = profile.to_owned();
            return Ok(Some(Source::SingleSignOn(SignOn { cache_key, region, account, role, profile })));
        }
        Ok(setting("credential_process").map(|program| Source::Program(Secret::new(program))))
    }
}

#[derive(Clone, Copy)]
enum FileKind {
    Config,
    Credentials,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn profiles(config: &str, credentials: &str) -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(config, FileKind::Config).unwrap();
        profiles.add(credentials, FileKind::Credentials).unwrap();
        profiles
    }

    #[test]
    fn a_role_builds_on_another_profile() {
        let profiles = profiles(
            "[default]\nregion = eu-west-1\n[profile dev]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n\
             external_id = e\n# comment\n[profile odd]\ns3 =\n  max_concurrent_requests = 20\n",
            "[default]\naws_access_key_id = AKIA\naws_secret_access_key = a/b+c=d\n",
        );
        assert_eq!(profiles.setting("default", "region"), Some("eu-west-1"));
        let Some(Source::Role { role, base }) = profiles.source("dev").unwrap() else { panic!("not a role") };
        assert_eq!((role.arn.as_str(), role.external_id.as_deref()), ("arn:aws:iam::1:role/x", Some("e")));
        let keys = Source::Keys { id: "AKIA".to_owned(), secret: Secret::new("a/b+c=d"), session: None };
        assert_eq!(*base, keys);
        assert_eq!(profiles.source("odd").unwrap(), None);
        assert!(profiles.source("none").unwrap_err().contains("there are: default, dev, odd"));
    }

    #[test]
    fn a_profile_may_build_on_itself_but_not_in_a_circle() {
        let own = profiles(
            "[profile a]\nrole_arn = r\nsource_profile = a\n",
            "[a]\naws_access_key_id = A\naws_secret_access_key = B\n",
        );
        assert!(
            matches!(own.source("a").unwrap(), Some(Source::Role { base, .. }) if matches!(*base, Source::Keys { .. }))
        );
        let circle = profiles(
            "[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n",
            "",
        );
        let error = circle.source("a").unwrap_err();
        assert!(error.contains("circle"), "{error}");
    }

    #[test]
    fn sign_ons_are_read_in_both_forms() {
        let profiles = profiles(
            "[profile new]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n\
             [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n\
             [profile old]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n\
             sso_account_id = 123456789012\nsso_role_name = dev\n",
            "",
        );
        for (profile, key) in [("new", "corp"), ("old", "https://corp.awsapps.com/start")] {
            let Some(Source::SingleSignOn(sign_on)) = profiles.source(profile).unwrap() else {
                panic!("{profile}")
            };
            assert_eq!((sign_on.cache_key.as_str(), sign_on.region.as_str()), (key, "us-east-1"));
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_or_turn_for_ever(
            names in proptest::collection::vec("[a-c]", 1..6), sources in proptest::collection::vec("[a-c]", 6), text in "\\PC{0,80}"
        ) {
            let mut config = String::new();
            for (name, source) in names.iter().zip(&sources) {
                writeln!(config, "[profile {name}]\nrole_arn = r\nsource_profile = {source}").unwrap();
            }
            let mut profiles = Profiles::default();
            let _ = profiles.add(&config, FileKind::Config);
            let _ = profiles.add(&text, FileKind::Credentials);
            for name in &names {
                let _ = profiles.source(name);
            }
        }
    }
}
