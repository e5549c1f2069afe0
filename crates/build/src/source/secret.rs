//! Secrets in code: files that are keys by their name, and keys, tokens and passwords in the text of others.
//!
//! An image is read by more people than the folder that it was made from. So what is surely a secret is refused; what
//! only might be one is let through, or the refusal would soon be ignored.

use std::{fmt, sync::LazyLock};

use regex::bytes::{Regex, RegexSet};
use serde::{Deserialize, Serialize};

/// The rules' version. It goes up with every change of what is found, so that remembered verdicts are not used.
pub(crate) const RULES: u32 = 2;
/// The longest file whose text is looked at. What is longer is data.
pub(crate) const LONGEST: u64 = 4 << 20;
/// The longest line in which assignments are looked for. What is longer was written by a program.
const LONGEST_LINE: usize = 2000;
/// How much of a file says whether it is text.
const HEAD: usize = 8 << 10;

/// What kind of secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SecretKind {
    /// A file whose name is that of a file of credentials.
    CredentialFile,
    /// A key store or a file that holds a key, by its name.
    KeyFile,
    /// A private key as PEM, OpenSSH, PGP or PuTTY write it.
    PrivateKey,
    /// An AWS access key ID and its secret.
    AwsKey,
    /// A Google service account with its key.
    GoogleServiceAccount,
    /// A Kubernetes configuration with a user's key, token or password.
    Kubeconfig,
    /// A GitHub token.
    GithubToken,
    /// A GitLab token.
    GitlabToken,
    /// A Slack token or webhook.
    SlackToken,
    /// A token of the Python Package Index.
    PypiToken,
    /// An npm token.
    NpmToken,
    /// A Hugging Face token.
    HuggingFaceToken,
    /// An OpenAI or Anthropic key.
    ModelApiKey,
    /// A Stripe key that is in use.
    StripeKey,
    /// The key of an Azure storage account.
    AzureStorageKey,
    /// A URL with a password.
    UrlPassword,
    /// Something random that is called a password, a secret, a token or a key.
    RandomValue,
}

impl fmt::Display for SecretKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::CredentialFile => "a file of credentials, by its name",
            Self::KeyFile => "a file of keys, by its name",
            Self::PrivateKey => "a private key",
            Self::AwsKey => "an AWS access key with its secret",
            Self::GoogleServiceAccount => "the key of a Google service account",
            Self::Kubeconfig => "a kubeconfig with credentials",
            Self::GithubToken => "a GitHub token",
            Self::GitlabToken => "a GitLab token",
            Self::SlackToken => "a Slack token",
            Self::PypiToken => "a PyPI token",
            Self::NpmToken => "an npm token",
            Self::HuggingFaceToken => "a Hugging Face token",
            Self::ModelApiKey => "the key of a model API",
            Self::StripeKey => "a Stripe key",
            Self::AzureStorageKey => "the key of an Azure storage account",
            Self::UrlPassword => "a password in a URL",
            Self::RandomValue => "a random value that is called a secret",
        })
    }
}

/// A secret in a file. What it is, never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// What kind of secret.
    pub kind: SecretKind,
    /// The line, from 1. Absent where the file as a whole is the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// The first secret of a file, if there is one: by the file's path, or in its content.
pub(crate) fn find(path: &str, content: &[u8]) -> Option<Secret> {
    if content.is_empty() {
        return None;
    }
    if let Some(kind) = of_name(path) {
        return Some(Secret { kind, line: None });
    }
    if content[..content.len().min(HEAD)].contains(&0) {
        return None;
    }
    of_format(content).or_else(|| of_assignment(path, content)).map(|(kind, place)| Secret {
        kind,
        // A file of at most 4 MiB has fewer lines than that.
        line: u32::try_from(content[..place].split(|byte| *byte == b'\n').count()).ok(),
    })
}

/// What a file is by its name alone.
pub(crate) fn of_name(path: &str) -> Option<SecretKind> {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let kept_empty = ["example", "sample", "template", "dist", "tmpl"].contains(&extension);
    let is_environment = name == ".env" || (name.starts_with(".env.") && !kept_empty);
    let is_client_secret = name.starts_with("client_secret") && extension == "json";
    match name.as_str() {
        "credentials"
        | "application_default_credentials.json"
        | ".pypirc"
        | ".netrc"
        | "_netrc"
        | ".pgpass"
        | ".git-credentials"
        | ".htpasswd"
        | ".dockercfg"
        | "kubeconfig" => Some(SecretKind::CredentialFile),
        _ if is_environment || is_client_secret || extension == "kubeconfig" => {
            Some(SecretKind::CredentialFile)
        }
        _ if path.ends_with(".docker/config.json") => Some(SecretKind::CredentialFile),
        "id_rsa" | "id_dsa" | "id_ecdsa" | "id_ecdsa_sk" | "id_ed25519" | "id_ed25519_sk" => {
            Some(SecretKind::KeyFile)
        }
        _ if ["p12", "pfx", "jks", "keystore", "kdbx", "ppk"].contains(&extension) => {
            Some(SecretKind::KeyFile)
        }
        _ => None,
    }
}

/// A secret of a known format.
struct Format {
    kind: SecretKind,
    /// What it looks like.
    pattern: &'static str,
    /// Whether a match, which begins at the given place of the content, is one.
    is_real: fn(content: &[u8], found: &[u8], place: usize) -> bool,
}

/// The known formats. Where the field's documentation has a checksum, it is checked; otherwise what is found must look
/// random, since examples seldom do.
const FORMATS: &[Format] = &[
    Format {
        kind: SecretKind::GoogleServiceAccount,
        pattern: r#""type"\s*:\s*"service_account""#,
        is_real: |content, _, _| has_private_key(content),
    },
    Format {
        kind: SecretKind::PrivateKey,
        pattern: r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[0-9]",
        is_real: |content, found, place| is_key_body(&content[place + found.len()..]),
    },
    Format {
        kind: SecretKind::AwsKey,
        pattern: r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
        is_real: |content, found, place| {
            !found.ends_with(b"EXAMPLE") && has_aws_secret(around(content, place))
        },
    },
    Format {
        kind: SecretKind::Kubeconfig,
        pattern: r"(?m)^\s*(?:client-key-data|token|password):\s*\S{16,}",
        is_real: |content, _, _| contains(content, b"kind: Config") && contains(content, b"clusters:"),
    },
    Format {
        kind: SecretKind::GithubToken,
        pattern: r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
        is_real: |_, found, _| has_checksum(&found[4..]),
    },
    Format {
        kind: SecretKind::GithubToken,
        pattern: r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
        is_real: |_, found, _| is_random(&found[11..]),
    },
    Format {
        kind: SecretKind::GitlabToken,
        pattern: r"\bgl(?:pat|dt|rt|cbt|ptt|agent|soat|ft)-[A-Za-z0-9_-]{20,}",
        is_real: |_, found, _| is_random(&found[6..]),
    },
    Format {
        kind: SecretKind::SlackToken,
        pattern: r"\bxox[abeoprs]-[0-9]{8,14}-[0-9A-Za-z-]{20,}",
        is_real: |_, found, _| is_random(&found[5..]),
    },
    Format {
        kind: SecretKind::SlackToken,
        pattern: r"\bhooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{24}\b",
        is_real: |_, found, _| is_random(&found[found.len() - 24..]),
    },
    Format {
        // What follows the prefix is a macaroon, whose first packet names the index.
        kind: SecretKind::PypiToken,
        pattern: r"\bpypi-(?:AgEIcHlwaS5vcmc|AgENdGVzdC5weXBpLm9yZw)[A-Za-z0-9_-]{50,}",
        is_real: |_, found, _| is_random(&found[27..]),
    },
    Format {
        kind: SecretKind::NpmToken,
        pattern: r"\bnpm_[A-Za-z0-9]{36}\b",
        is_real: |_, found, _| has_checksum(&found[4..]),
    },
    Format {
        kind: SecretKind::HuggingFaceToken,
        pattern: r"\bhf_[A-Za-z]{34}\b",
        is_real: |_, found, _| entropy(&found[3..]) > 3.8,
    },
    Format {
        kind: SecretKind::ModelApiKey,
        pattern: r"\bsk-(?:[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}|ant-[a-z0-9]{3,8}-[A-Za-z0-9_-]{80,})",
        is_real: |_, found, _| is_random(&found[3..]),
    },
    Format {
        kind: SecretKind::StripeKey,
        pattern: r"\b[rs]k_live_[A-Za-z0-9]{24,}\b",
        is_real: |_, found, _| is_random(&found[8..]),
    },
    Format {
        kind: SecretKind::AzureStorageKey,
        pattern: r"\bAccountKey=[A-Za-z0-9+/]{86}==",
        is_real: |_, found, _| is_random(&found[11..97]),
    },
    Format {
        // RFC 3986 §3.2.1. Shorter passwords are those of examples and of databases on the developer's machine.
        kind: SecretKind::UrlPassword,
        pattern: r"\b[a-z][a-z0-9+.-]{1,20}://[A-Za-z0-9._~%-]{0,64}:[A-Za-z0-9._~%!$&*+=-]{16,200}@[A-Za-z0-9\[]",
        is_real: |_, found, _| is_random(password(found)),
    },
];

/// All patterns at once, which most files match none of, and each.
static FORMAT_SET: LazyLock<RegexSet> =
    LazyLock::new(|| compiled(RegexSet::new(FORMATS.iter().map(|format| format.pattern))));
static FORMAT_REGEXES: LazyLock<Vec<Regex>> =
    LazyLock::new(|| FORMATS.iter().map(|format| compiled(Regex::new(format.pattern))).collect());

/// `name = "value"` and its kin: the name and the value.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    compiled(Regex::new(
        r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|encryption[_-]?key|credential)[a-z0-9_.-]*)\\?["']?\]?\s*(?::=|=>|=|:)\s*(?:\\?["']([a-z0-9+/_=.~-]{20,200})\\?["']|([a-z0-9+/_=.~-]{20,200})\s*$)"#,
    ))
});
/// A UUID names something, and hashes begin with the name of their function.
static NAME_LIKE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(Regex::new(r"(?i)^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$|^(?:sha\d+|md5|blake\w*)[-=:]"))
});

#[expect(clippy::expect_used, reason = "the patterns are constants, and every one is compiled in a test")]
fn compiled<T>(regex: Result<T, regex::Error>) -> T {
    regex.expect("a constant pattern")
}

/// The first secret of a known format, and where it begins.
fn of_format(content: &[u8]) -> Option<(SecretKind, usize)> {
    let matching = FORMAT_SET.matches(content);
    let real = matching.into_iter().filter_map(|index| {
        let format = &FORMATS[index];
        FORMAT_REGEXES[index]
            .find_iter(content)
            .find(|found| (format.is_real)(content, found.as_bytes(), found.start()))
            .map(|found| (format.kind, found.start()))
    });
    // A service account has a private key too: the format that is listed first says more.
    real.take(1).next()
}

/// The first random value that is called a secret, and where its line begins.
fn of_assignment(path: &str, content: &[u8]) -> Option<(SecretKind, usize)> {
    if is_made_or_test(path) {
        return None;
    }
    let mut place = 0;
    for line in content.split(|byte| *byte == b'\n') {
        if (24..=LONGEST_LINE).contains(&line.len()) {
            let random = ASSIGNMENT.captures_iter(line).any(|found| {
                let bare =
                    found.get(3).filter(|_| stands_first(line, found.get(1).map_or(0, |name| name.start())));
                found
                    .get(2)
                    .or(bare)
                    .is_some_and(|value| is_secret_name(&found[1]) && is_random(value.as_bytes()))
            });
            if random {
                return Some((SecretKind::RandomValue, place));
            }
        }
        place += line.len() + 1;
    }
    None
}

/// What stands between the last `:` and the `@` of the beginning of a URL.
fn password(url: &[u8]) -> &[u8] {
    let end = url.iter().rposition(|byte| *byte == b'@').unwrap_or(url.len());
    let start = url[..end].iter().rposition(|byte| *byte == b':').map_or(0, |colon| colon + 1);
    &url[start..end]
}

/// Whether a name begins a line, as it does where values need no quotes: in settings and in a shell.
fn stands_first(line: &[u8], name: usize) -> bool {
    matches!(line[..name].trim_ascii(), b"" | b"-" | b"export" | b"ENV" | b"set" | b"\"" | b"'")
}

/// Lock files, which are full of hashes, and tests, whose vectors are made to look like the real thing.
fn is_made_or_test(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_test =
        |part: &str| ["test", "tests", "testdata", "test_data", "testing", "fixtures"].contains(&part);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_lock = extension == "lock"
        || matches!(name, "package-lock.json" | "npm-shrinkwrap.json" | "pnpm-lock.yaml" | "go.sum")
        || (name.starts_with("pylock.") && extension == "toml");
    is_lock
        || folders.split('/').any(is_test)
        || name.starts_with("test_")
        || name.starts_with("conftest.")
        || name.contains("_test.")
        || ["csv", "tsv", "svg", "map", "ipynb_checkpoints"].contains(&extension)
        || name.ends_with(".min.js")
}

/// Whether a name is that of a secret, and not that of something about one.
fn is_secret_name(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let about = [
        "hash",
        "digest",
        "checksum",
        "sha1",
        "sha256",
        "public",
        "fingerprint",
        "tokenizer",
        "tokens",
        "_id",
        "-id",
        "url",
        "uri",
        "path",
        "file",
        "name",
        "arn",
        "example",
        "dummy",
        "fake",
        "test",
        "version",
        "model",
        "next",
        "continuation",
        "verification",
        "page",
    ];
    !about.iter().any(|about| name.contains(about))
}

/// Whether a value looks drawn at random: letters and digits mixed as no word, path or version mixes them.
fn is_random(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let is_placeholder = [
        &b"example"[..],
        b"xxxx",
        b"changeme",
        b"change-me",
        b"your",
        b"dummy",
        b"placeholder",
        b"0123456789",
        b"1234567890",
        b"abcdef",
    ]
    .iter()
    .any(|word| contains(&lower, word));
    if is_placeholder || NAME_LIKE.is_match(value) {
        return false;
    }
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    // Words begin with a capital and are parted by signs: neither is a change. At random nearly every second pair is one.
    let is_change = |pair: &&[u8]| {
        let (a, b) = (pair[0], pair[1]);
        (a.is_ascii_lowercase() && b.is_ascii_uppercase())
            || (a.is_ascii_digit() && b.is_ascii_alphabetic())
            || (a.is_ascii_alphabetic() && b.is_ascii_digit())
    };
    let changes = value.windows(2).filter(is_change).count();
    digits >= 2 && letters >= 4 && changes * 4 >= value.len() && entropy(value) >= 3.3
}

/// Shannon's entropy of the bytes, in bits a byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let share = |count: u32| f64::from(count) / f64::from(length);
    counts.iter().filter(|count| **count > 0).map(|count| -share(*count) * share(*count).log2()).sum()
}

/// Whether 36 characters end in the CRC-32 of those before in base 62, as GitHub's and npm's tokens do.
fn has_checksum(token: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((random, checksum)) = token.split_at_checked(30) else { return false };
    let mut rest = crc32fast::hash(random);
    let mut expected = [b'0'; 6];
    for digit in expected.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    checksum == expected
}

/// Whether key material follows the first line of a key, and not the rest of a program that knows of keys.
fn is_key_body(rest: &[u8]) -> bool {
    static BODY: LazyLock<Regex> = LazyLock::new(|| compiled(Regex::new(r"[A-Za-z0-9+/]{40}")));
    let rest = &rest[..rest.len().min(600)];
    let end = rest.windows(8).position(|window| window == b"-----END").unwrap_or(rest.len());
    BODY.find(&rest[..end]).is_some_and(|body| entropy(body.as_bytes()) > 2.0)
}

fn has_private_key(content: &[u8]) -> bool {
    contains(content, b"\"private_key\"") && contains(content, b"PRIVATE KEY-----")
}

fn has_aws_secret(near: &[u8]) -> bool {
    static SECRET: LazyLock<Regex> = LazyLock::new(|| compiled(Regex::new(r"[A-Za-z0-9+/]{40,}")));
    SECRET.find_iter(near).any(|found| found.len() == 40 && is_random(found.as_bytes()))
}

/// Some lines before and after a place.
fn around(content: &[u8], place: usize) -> &[u8] {
    &content[place.saturating_sub(400)..content.len().min(place + 400)]
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letters and digits that look drawn at random, in parts, so that this file is not itself what it looks for.
    const RANDOM: [&str; 4] = ["q8Zt3Lm0Xw", "Rk5vB1yNc7", "Ud2pHs9Ae6", "Gf4jTo8iQx"];

    fn random(length: usize) -> String {
        RANDOM.concat().chars().cycle().take(length).collect()
    }

    fn kind(path: &str, content: impl AsRef<[u8]>) -> Option<SecretKind> {
        find(path, content.as_ref()).map(|secret| secret.kind)
    }

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", random(64))
    }

    #[test]
    fn names_of_keys() {
        for (path, expected) in [
            ("deploy/id_rsa", SecretKind::KeyFile),
            ("ID_ED25519", SecretKind::KeyFile),
            ("store.P12", SecretKind::KeyFile),
            ("a/credentials", SecretKind::CredentialFile),
            ("a/.env.production", SecretKind::CredentialFile),
            (".netrc", SecretKind::CredentialFile),
            (".pypirc", SecretKind::CredentialFile),
            ("client_secret_12.apps.json", SecretKind::CredentialFile),
            ("kubeconfig", SecretKind::CredentialFile),
        ] {
            assert_eq!(find(path, b"x"), Some(Secret { kind: expected, line: None }), "{path}");
            assert_eq!(find(path, b""), None, "{path} is empty");
        }
        for path in
            ["id_rsa.pub", ".env.example", "credentials.py", "src/credentials/__init__.py", "config.json"]
        {
            assert_eq!(find(path, b"x"), None, "{path}");
        }
    }

    #[test]
    fn private_keys() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            assert_eq!(kind("server.pem", pem(label)), Some(SecretKind::PrivateKey), "{label}");
            assert_eq!(
                kind("a.py", format!("KEY = '{}'", pem(label).replace('\n', "\\n"))),
                Some(SecretKind::PrivateKey)
            );
        }
        let found =
            find("conf.yaml", format!("a: 1\nkey: |\n  {}", pem("EC PRIVATE KEY")).as_bytes()).unwrap();
        assert_eq!(found.line, Some(3));
        for label in ["CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY"] {
            assert_eq!(kind("server.pem", pem(label)), None, "{label}");
        }
        assert_eq!(
            kind("a.py", "if text.startswith('-----BEGIN PRIVATE KEY-----'):\n    return load(text)\n"),
            None
        );
        let account = format!("{{\"type\": \"service_account\", \"private_key\": {:?}}}", pem("PRIVATE KEY"));
        assert_eq!(kind("sa.json", account), Some(SecretKind::GoogleServiceAccount));
    }

    #[test]
    fn tokens_of_known_formats() {
        // A token that GitHub published as an example of its checksum.
        let github = ["ghp_zQWBuTSOoRi4A9sp", "HcVY5ncnsDkxkJ0mLq17"].concat();
        let aws = format!(
            "aws_access_key_id = AKIA{}\naws_secret_access_key = {}\n",
            "QZ7MWX3KTPLD2RVN",
            random(40)
        );
        let kube = format!("kind: Config\nclusters: []\nusers:\n- user:\n    token: {}\n", random(30));
        for (text, expected) in [
            (github.clone(), SecretKind::GithubToken),
            (github.replace("ghp_", "npm_"), SecretKind::NpmToken),
            (format!("github_pat_{}_{}", random(22), random(59)), SecretKind::GithubToken),
            (format!("glpat-{}", random(20)), SecretKind::GitlabToken),
            (format!("xoxb-109283746512-{}", random(24)), SecretKind::SlackToken),
            (
                format!("https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/{}", random(24)),
                SecretKind::SlackToken,
            ),
            (format!("pypi-AgEIcHlwaS5vcmc{}", random(80)), SecretKind::PypiToken),
            (format!("hf_{}", "qZtLmXwRkvByNcUdpHsAeGfjToiQxJaWbE"), SecretKind::HuggingFaceToken),
            (format!("sk-{}T3BlbkFJ{}", random(20), random(20)), SecretKind::ModelApiKey),
            (format!("sk_live_{}", random(24)), SecretKind::StripeKey),
            (format!("AccountKey={}==", random(86)), SecretKind::AzureStorageKey),
            (format!("DB = 'postgresql://app:{}@db.internal/prod'", random(24)), SecretKind::UrlPassword),
            (
                format!("--extra-index-url https://__token__:{}@pypi.internal/simple\n", random(40)),
                SecretKind::UrlPassword,
            ),
            (aws, SecretKind::AwsKey),
            (kube, SecretKind::Kubeconfig),
        ] {
            assert_eq!(kind("notes.txt", &text), Some(expected), "{text}");
        }
        assert_eq!(kind("a.txt", github.replace('Q', "R")), None, "a wrong checksum");
        assert_eq!(kind("a.txt", format!("AKIA{}", "QZ7MWX3KTPLD2RVN")), None, "an ID alone is no secret");
        assert_eq!(kind("a.txt", "glpat-your-token-goes-here1"), None);
    }

    #[test]
    fn random_values_that_are_called_secrets() {
        let value = random(32);
        for text in [
            format!("PASSWORD = \"{value}\""),
            format!("    db_password: '{value}',"),
            format!("os.environ[\"API_KEY\"] = \"{value}\""),
            format!("{{\"auth_token\": \"{value}\"}}"),
            format!("secret_key={value}\r"),
            format!("\"    \\\"client_secret\\\": \\\"{value}\\\"\\n\","),
            format!("token = \"{}{}\"", "3f9a1c7e5b2d8f60", "a4c1e97b3d5f8a20"),
        ] {
            let found = find("app/config.py", format!("import os\n\n{text}\n").as_bytes());
            assert_eq!(found, Some(Secret { kind: SecretKind::RandomValue, line: Some(3) }), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_secret() {
        let value = random(32);
        for text in [
            format!("password_hash = \"{value}\""),
            format!("sha256 = \"{value}\""),
            format!("image = \"{value}\""),
            format!("NextContinuationToken: \"{value}\""),
            format!("see https://example.com/cb#access_token={value}"),
            "url = \"postgresql://postgres:postgres@localhost:5432/test_database\"".to_owned(),
            "url = \"https://user:${INDEX_PASSWORD_2024}@pypi.internal/simple\"".to_owned(),
            "url = f\"https://{user}:{password}@host/\" # git+ssh://git@github.com:22/a/b1".to_owned(),
            "see https://example.com:8443/a@1.2.3/b and https://me:your-password-here-123@host".to_owned(),
            "token = \"00000000-1111-4222-8333-444455556666\"".to_owned(),
            "token = \"4f0c2c1e-93b7-4e39-8d2b-6a1f0e5c7d98\"".to_owned(),
            "tokenizer = \"bert-base-uncased-finetuned-2024-v2\"".to_owned(),
            "secret = \"projects/my-project-2/secrets/db-password\"".to_owned(),
            "password = os.environ[\"DATABASE_PASSWORD_2024\"]".to_owned(),
            "password = get_password_from_vault_v2()".to_owned(),
            "api_key = \"your-api-key-1234-goes-here\"".to_owned(),
            "auth_token: \"{{ .Values.auth.token12 }}\"".to_owned(),
            "max_new_tokens = 12345678901234567890123".to_owned(),
            "token = AutoTokenizer2.from_pretrained(name1)".to_owned(),
            "credentials = service_account2.Credentials3".to_owned(),
        ] {
            assert_eq!(kind("app/config.py", &text), None, "{text}");
        }
        let assignment = format!("password = \"{value}\"");
        for path in [
            "uv.lock",
            "package-lock.json",
            "tests/vectors.py",
            "pkg/test_login.py",
            "data.csv",
            "pylock.dev.toml",
        ] {
            assert_eq!(kind(path, &assignment), None, "{path}");
        }
        let described = "-----BEGIN PRIVATE KEY-----<a long text>-----END PRIVATE KEY-----";
        assert_eq!(kind("a.json", format!("{described} {}", random(64))), None);
        assert_eq!(kind("a.bin", format!("\0{assignment}\n{}", pem("PRIVATE KEY"))), None, "not text");
        assert_eq!(
            kind("a.js", format!("{}{assignment}", "x = 1; ".repeat(400))),
            None,
            "written by a program"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(content in prop::collection::vec(any::<u8>(), 0..200), path in ".{0,20}") {
            find(&path, &content);
        }

        #[test]
        fn words_and_numbers_are_not_secrets(
            words in prop::collection::vec("[a-z]{3,9}|[A-Z][a-z]{3,9}|[0-9]{1,4}", 3..8), by in "[-_./]",
        ) {
            let text = format!("secret = \"{}\"", words.join(&by));
            prop_assert_eq!(kind("a.py", text), None);
        }
    }
}
