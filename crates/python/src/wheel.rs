//! A wheel, opened and found to be what its name says (binary distribution format).

use std::io::{Read, Seek};

use longshore_layer::zip::Archive;
use pep508_rs::{PackageName, pep440_rs::Version};

use crate::{
    error::{Error, WheelProblem},
    filename::WheelFilename,
};

/// Metadata files beyond this are no metadata.
const METADATA_LIMIT: u64 = 32 << 20;

/// A wheel, opened and checked.
pub struct Wheel<R> {
    filename: WheelFilename,
    archive: Archive<R>,
    dist_info: String,
}

impl<R: Read + Seek> Wheel<R> {
    /// Opens a wheel and checks what uv checks: one `.dist-info` folder, a WHEEL of a version that is understood, a
    /// METADATA that agrees with the file name. Nothing of the content is unpacked.
    pub fn open(filename: &WheelFilename, input: R) -> Result<Self, Error> {
        let archive = Archive::open(input).map_err(|source| Error::wheel(filename, source.into()))?;
        let mut wheel = Self { filename: filename.clone(), archive, dist_info: String::new() };
        wheel.check().map_err(|problem| Error::wheel(filename, problem))?;
        Ok(wheel)
    }

    fn check(&mut self) -> Result<(), WheelProblem> {
        self.dist_info = self.find_dist_info()?;
        let text = self.metadata("WHEEL")?;
        check_wheel_version(&text).map_err(|reason| self.unusable("WHEEL", reason))?;

        let text = self.metadata("METADATA")?;
        let field = |name: &str| {
            header(&text, name).ok_or_else(|| self.unusable("METADATA", format!("it has no field {name}")))
        };
        let (name, version) = (field("Name")?, field("Version")?);
        let wrong = |what: String| self.unusable("METADATA", what);
        let parsed: PackageName = name.parse().map_err(|_| wrong(format!("`{name}` is not a name")))?;
        let number: Version = version.parse().map_err(|_| wrong(format!("`{version}` is not a version")))?;
        let promised = self.filename.version();
        if &parsed != self.filename.name()
            || (number != *promised && number != promised.clone().without_local())
        {
            return Err(WheelProblem::Mismatch {
                filename: format!("{} {promised}", self.filename.name()),
                metadata: format!("{name} {version}"),
            });
        }
        Ok(())
    }

    fn find_dist_info(&self) -> Result<String, WheelProblem> {
        let mut found: Vec<&str> = self
            .archive
            .entries()
            .iter()
            .filter_map(|entry| {
                let (top, below) = match entry.path.as_str().split_once('/') {
                    Some((top, _)) => (top, true),
                    None => (entry.path.as_str(), entry.is_dir()),
                };
                top.strip_suffix(".dist-info").filter(|prefix| below && !prefix.is_empty())
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [only] => Ok(only.to_owned()),
            [] => Err(WheelProblem::Structure("it has no .dist-info folder".to_owned())),
            _ => Err(WheelProblem::Structure(format!(
                "it has more than one .dist-info folder: {}",
                found.join(", ")
            ))),
        }
    }

    fn unusable(&self, file: &str, reason: String) -> WheelProblem {
        WheelProblem::Metadata { entry: format!("{}.dist-info/{file}", self.dist_info), reason }
    }

    /// The text of a metadata file that every wheel has.
    pub(crate) fn metadata(&mut self, file: &str) -> Result<String, WheelProblem> {
        self.optional_metadata(file)?.ok_or_else(|| {
            WheelProblem::Structure(format!("it has no `{}.dist-info/{file}`", self.dist_info))
        })
    }

    /// The text of a metadata file, if there is one.
    pub(crate) fn optional_metadata(&mut self, file: &str) -> Result<Option<String>, WheelProblem> {
        let Some(index) = self.archive.find(&format!("{}.dist-info/{file}", self.dist_info)) else {
            return Ok(None);
        };
        let bytes = self.archive.read(index, METADATA_LIMIT)?;
        String::from_utf8(bytes).map(Some).map_err(|_| self.unusable(file, "it is not UTF-8".to_owned()))
    }

    /// The name that it was opened under.
    pub const fn filename(&self) -> &WheelFilename {
        &self.filename
    }

    /// What stands before `.dist-info` and `.data`.
    pub fn dist_info(&self) -> &str {
        &self.dist_info
    }

    /// Its files.
    pub const fn archive(&self) -> &Archive<R> {
        &self.archive
    }

    /// Its files, to be read.
    pub const fn archive_mut(&mut self) -> &mut Archive<R> {
        &mut self.archive
    }
}

fn check_wheel_version(text: &str) -> Result<(), String> {
    let version = header(text, "Wheel-Version").ok_or("it has no field Wheel-Version")?;
    match version.split_once('.') {
        // A higher minor version is compatible by the specification; 0.1 is what very old tools wrote.
        Some(("1", _) | ("0", "1")) => Ok(()),
        _ => Err(format!("its Wheel-Version is {version}, and version 1 is the one that is understood")),
    }
}

/// The first value of a field in the format of e-mail headers.
fn header(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().take_while(|line| !line.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if key.eq_ignore_ascii_case(name) {
            let mut value = value.trim().to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(more.trim());
            }
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_at_the_empty_line() {
        let text = "Metadata-Version: 2.1\nname:  thing\nSummary: one\n  two\n\nVersion: 1\n";
        assert_eq!(header(text, "Name").as_deref(), Some("thing"));
        assert_eq!(header(text, "Summary").as_deref(), Some("one two"));
        assert_eq!(header(text, "Version"), None);
    }

    #[test]
    fn wheel_versions() {
        for good in ["1.0", "1.9", "0.1"] {
            assert_eq!(check_wheel_version(&format!("Wheel-Version: {good}\n")), Ok(()));
        }
        for wrong in ["Wheel-Version: 2.0\n", "Wheel-Version: 1\n", "Generator: x\n"] {
            assert!(check_wheel_version(wrong).is_err(), "{wrong}");
        }
    }
}
