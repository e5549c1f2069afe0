use super::*;
use proptest::prelude::*;

fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const BOOKWORM: (&str, &str) = ("etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");

fn suites(sources: &Sources) -> Vec<String> {
    sources.archives.iter().map(|it| format!("{} {} {}", it.url, it.suite, it.components.join("+"))).collect()
}

#[test]
fn both_formats_are_read_and_third_parties_left_out() {
    let root = system(&[
        BOOKWORM,
        (
            "etc/apt/sources.list",
            "# x\ndeb [arch=amd64,arm64 signed-by=/usr/share/keyrings/a.gpg] http://mirror/debian bookworm main contrib # c\n\
             deb-src http://mirror/debian bookworm main\ndeb cdrom:[x]/ bookworm main\ndeb http://flat/ ./\n",
        ),
        (
            "etc/apt/sources.list.d/debian.sources",
            "Types: deb deb-src\nURIs: https://security/debian\nSuites: bookworm-security stable-updates\nComponents: main\n\
             Check-Valid-Until: no\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off/\nSuites: bookworm\nComponents: main\n",
        ),
        (
            "etc/apt/sources.list.d/node.list",
            "deb http://node/ nodistro main\ndeb http://pg/ bookworm-pgdg main\n",
        ),
        ("etc/apt/sources.list.d/docker.list", "deb http://docker/linux/debian bookworm stable\n"),
        ("etc/apt/sources.list.d/old.list.save", "deb http://saved/ bookworm main\n"),
        (
            "etc/apt/apt.conf.d/99x",
            "Acquire::http::Proxy \"http://proxy:3128\"; Acquire::Check-Valid-Until \"no\";",
        ),
    ]);
    let sources = Sources::from_root(root.path()).unwrap();
    let expected = [
        "http://mirror/debian bookworm main+contrib",
        "https://security/debian bookworm-security main",
        "https://security/debian stable-updates main",
    ];
    assert_eq!(suites(&sources), expected);
    assert_eq!(sources.codename.as_deref(), Some("bookworm"));
    assert!(sources.archives[0].serves(Arch::Arm64) && sources.archives[1].check_valid_until == Some(false));
    assert_eq!(
        sources.archives[0].trust,
        Trust::Keys(vec![KeySource::File(root.path().join("usr/share/keyrings/a.gpg"))])
    );
    let Trust::Keys(keys) = &sources.archives[1].trust else { panic!() };
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----";
    assert_eq!(keys, &[KeySource::Inline(key.to_owned())]);
    assert_eq!(
        sources.network.https_proxy.as_deref(),
        Some("http://proxy:3128"),
        "as in apt, http's serves https too"
    );
    assert!(!sources.currency.check_valid_until && sources.currency.check_date);
    let json = serde_json::to_string(&sources).unwrap();
    assert_eq!(serde_json::from_str::<Sources>(&json).unwrap(), sources);
}

#[test]
fn ubuntu_with_ports_is_read_per_architecture() {
    let root = system(&[
        ("etc/os-release", "ID=ubuntu\nVERSION_CODENAME=noble\n"),
        (
            "etc/apt/sources.list.d/ubuntu.sources",
            "Types: deb\nURIs: http://archive/ubuntu/\nSuites: noble noble-updates noble-backports\nComponents: main universe\nArchitectures: amd64\n\n\
             Types: deb\nURIs: http://ports/ubuntu-ports/\nSuites: noble\nComponents: main universe\nArchitectures: arm64\n",
        ),
        ("etc/apt/trusted.gpg.d/ubuntu.gpg", "x"),
    ]);
    let sources = Sources::from_root(root.path()).unwrap();
    let of = |arch| {
        sources
            .archives
            .iter()
            .filter(|it| it.serves(arch))
            .map(|it| it.url.host_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((of(Arch::Amd64), of(Arch::Arm64)), (vec!["archive", "archive"], vec!["ports"]));
    let trusted = KeySource::File(root.path().join("etc/apt/trusted.gpg.d/ubuntu.gpg"));
    assert_eq!(sources.archives[0].trust, Trust::Keys(vec![trusted]));
}

#[test]
fn mirror_files_of_cloud_images_are_followed() {
    let root = system(&[
        BOOKWORM,
        (
            "etc/apt/mirrors/debian.list",
            "# mirrors\nhttps://first/debian priority:1\nhttps://second/debian\n",
        ),
        (
            "etc/apt/sources.list.d/debian.sources",
            "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\nTrusted: yes\n",
        ),
    ]);
    let sources = Sources::from_root(root.path()).unwrap();
    assert_eq!(suites(&sources), ["https://first/debian bookworm main"]);
    assert_eq!(sources.archives[0].trust, Trust::Unsigned);
}

#[test]
fn a_machine_without_apt_is_told_what_to_set() {
    let error = Sources::from_root(system(&[BOOKWORM]).path()).unwrap_err().to_string();
    assert!(error.contains("no apt configuration") && error.contains("`suite`"), "{error}");
    let third = [BOOKWORM, ("etc/apt/sources.list", "deb http://x/ bookworm-pgdg main\n")];
    let error = Sources::from_root(system(&third).path()).unwrap_err().to_string();
    assert!(error.contains("is of bookworm itself") && error.contains("sources.list:1"), "{error}");
    for wrong in [
        "deb http://x/\n",
        "deb [arch=amd64 http://x/ bookworm main\n",
        "deb [x] http://x/ bookworm main\n",
        "deb x:y[ bookworm main",
    ] {
        let error =
            Sources::from_root(system(&[BOOKWORM, ("etc/apt/sources.list", wrong)]).path()).unwrap_err();
        assert!(matches!(error, Error::AptConfiguration { .. } | Error::NoApt), "{wrong} {error}");
    }
}

#[test]
fn addresses_stay_below_their_archive() {
    let base: Url = "http://mirror/debian".parse().unwrap();
    assert_eq!(join(&base, "pool/a%2b.deb").unwrap().as_str(), "http://mirror/debian/pool/a%2b.deb");
    for wrong in ["../x", "/x", "//evil/x", "http://evil/", "a/../../x"] {
        assert!(join(&base, wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(text in "(deb |\\[|\\]|http://x/ |a=b |main|\n|#|é){0,12}") {
        let root = system(&[BOOKWORM, ("etc/apt/sources.list", &text), ("etc/apt/sources.list.d/x.sources", &text)]);
        let _ = Sources::from_root(root.path());
    }
}
