//! What of the packages is left out: documentation and translations, as in the usual slim images. Copyright files stay,
//! because the licences ask for them.

use longshore_layer::{EntryPath, Kind};

/// Folders whose contents are left out.
const LEFT_OUT: [&str; 9] = [
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/groff",
    "usr/share/info",
    "usr/share/linda",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
];

/// Whether an entry of a package goes into the image.
///
/// Of the folders above nothing does, except `usr/share/doc/*/copyright`, links at that place (packages of one source share
/// their documentation), and `usr/share/locale/locale.alias`.
pub(crate) fn is_wanted(path: &EntryPath, kind: &Kind) -> bool {
    let text = path.as_str();
    let below = LEFT_OUT
        .iter()
        .find_map(|folder| text.strip_prefix(folder)?.strip_prefix('/').map(|rest| (*folder, rest)));
    match below {
        None => true,
        Some(("usr/share/doc", rest)) => match rest.split_once('/') {
            None => *kind != Kind::File,
            Some((_, file)) => file == "copyright",
        },
        Some(("usr/share/locale", rest)) => rest == "locale.alias",
        Some(_) => false,
    }
}

/// The same rule for dpkg, which then keeps to it when packages are installed on top.
pub(super) fn dpkg_configuration() -> String {
    let mut text =
        vec!["# Documentation and translations are not in this image; copyright files are.".to_owned()];
    text.extend(LEFT_OUT.map(|folder| format!("path-exclude /{folder}/*")));
    text.extend(
        ["doc/*/copyright", "locale/locale.alias"].map(|path| format!("path-include /usr/share/{path}")),
    );
    super::lines(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_goes_and_copyright_stays() {
        let wanted = |path: &str, kind: Kind| is_wanted(&EntryPath::new(path).unwrap(), &kind);
        let link = || Kind::Symlink { target: "gcc-12-base".to_owned() };
        assert!(wanted("usr/share/doc/libgcc-s1", link()) && wanted("usr/share/doc/bash", Kind::Directory));
        assert!(wanted("usr/share/doc/bash/copyright", Kind::File) && wanted("usr/share/docs", Kind::File));
        assert!(
            !wanted("usr/share/doc/bash/README.gz", Kind::File) && !wanted("usr/share/doc/x", Kind::File)
        );
        assert!(
            !wanted("usr/share/man/man1/bash.1.gz", Kind::File) && wanted("usr/share/man", Kind::Directory)
        );
        assert!(!wanted("usr/share/locale/de/LC_MESSAGES/bash.mo", Kind::File));
        assert!(wanted("usr/share/locale/locale.alias", Kind::File));
    }
}
