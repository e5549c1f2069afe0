//! The settings that hold in the end, from all levels at which they can be given.

use super::{Overrides, SettingsError, SettingsFile, SettingsFileError};
use crate::PipelineSpec;

/// Why the settings of all levels do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LevelsError {
    /// The file names what is not in the pipeline.
    #[error(transparent)]
    File(#[from] SettingsFileError),
    /// The command line names a step that is not in the pipeline.
    #[error("the pipeline {pipeline} has no step `{step}`, for which settings are given; it has {known}")]
    Step {
        /// The pipeline.
        pipeline: String,
        /// The name given.
        step: String,
        /// The steps' names.
        known: String,
    },
    /// What holds in the end makes no sense.
    #[error("in the settings of step {step}: {source}")]
    Settings {
        /// The step.
        step: String,
        /// What is wrong.
        source: SettingsError,
    },
}

impl PipelineSpec {
    /// Puts the settings of the pipeline's code between those of the project's file, which they win over, and those that
    /// were given for this run, which win over all.
    pub fn settle(&mut self, file: Option<&SettingsFile>, overrides: &Overrides) -> Result<(), LevelsError> {
        if let Some(file) = file {
            file.check(self)?;
        }
        if let Some(step) =
            overrides.steps.keys().find(|name| !self.steps.iter().any(|step| step.name == **name))
        {
            let known = self.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(LevelsError::Step { pipeline: self.name.clone(), step: step.clone(), known });
        }
        let name = &self.name;
        let below = file.map(|file| file.pipeline(name)).unwrap_or_default();
        self.docker = overrides.docker.over(&self.docker.over(&below));
        for step in &mut self.steps {
            let below = file.map(|file| file.step(name, &step.name)).unwrap_or_default();
            let own = overrides.steps.get(&step.name).cloned().unwrap_or_default();
            step.docker = own.over(&overrides.docker).over(&step.docker.over(&below));
            let wrong = |source| LevelsError::Settings { step: step.name.clone(), source };
            step.docker.check().map_err(wrong)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// The levels at which a step's settings can be given, lowest first.
    const LEVELS: [&str; 7] = [
        "file",
        "file: pipeline",
        "file: step",
        "code: pipeline",
        "code: step",
        "command line",
        "command line: step",
    ];

    fn settled(levels: &[&'static str]) -> Result<PipelineSpec, LevelsError> {
        let docker = |level: &str| {
            if !levels.contains(&level) {
                return json!({});
            }
            json!({"user": level, "environment": {"ALL": level, level.replace([':', ' '], "_"): "set"}})
        };
        let file = json!({
            "docker": docker("file"),
            "pipeline": {"p": {"docker": docker("file: pipeline"), "step": {"s": {"docker": docker("file: step")}}}},
        });
        // JSON is YAML.
        let file = SettingsFile::parse(Path::new("/p/longshore.yaml"), &file.to_string())?;
        let document = json!({
            "version": crate::spec::VERSION, "pipeline": {"name": "p"}, "source_root": "/p", "sdk_version": "0.1.0",
            "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
            "settings": {"docker": docker("code: pipeline")},
            "steps": [{
                "name": "s", "source": {"module": "m", "attribute": "s"}, "outputs": [],
                "settings": {"docker": docker("code: step")},
            }],
        });
        let mut spec = PipelineSpec::from_json(document.to_string().as_bytes()).unwrap();
        let mut assignments = Vec::new();
        for (level, prefix) in [("command line", "docker"), ("command line: step", "step.s.docker")] {
            if levels.contains(&level) {
                assignments.push(format!("{prefix}.user={level}"));
                assignments.push(format!("{prefix}.environment.ALL={level}"));
                assignments.push(format!("{prefix}.environment.{}=set", level.replace([':', ' '], "_")));
            }
        }
        spec.settle(file.as_ref(), &Overrides::parse(&assignments, Path::new("/p")).unwrap())?;
        Ok(spec)
    }

    #[test]
    fn of_every_two_levels_the_nearer_wins() {
        for (position, lower) in LEVELS.into_iter().enumerate() {
            let spec = settled(&[lower]).unwrap();
            assert_eq!(spec.steps[0].docker.user.as_deref(), Some(lower));
            for higher in &LEVELS[position + 1..] {
                let spec = settled(&[lower, higher]).unwrap();
                let docker = &spec.steps[0].docker;
                assert_eq!(docker.user.as_deref(), Some(*higher), "{higher} over {lower}");
                let environment = docker.environment.as_ref().unwrap();
                assert_eq!(environment.len(), 3, "{higher} over {lower}");
                assert_eq!(environment["ALL"], *higher);
            }
        }
    }

    #[test]
    fn a_step_that_does_not_exist_is_an_error() {
        let mut spec = settled(&[]).unwrap();
        let file = "[pipeline.p.step.ss.docker]\nuser = 'x'\n[pipeline.other.step.z.docker]\nuser = 'y'\n";
        let file = SettingsFile::parse(Path::new("/p/longshore.toml"), file).unwrap();
        let error = spec.settle(file.as_ref(), &Overrides::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/p/longshore.toml:1: the pipeline p has no step `ss`; did you mean `s`?"
        );
        let overrides = Overrides::parse(&["step.t.docker.user=x"], Path::new("/p")).unwrap();
        let error = spec.settle(None, &overrides).unwrap_err().to_string();
        assert_eq!(error, "the pipeline p has no step `t`, for which settings are given; it has s");
    }

    #[test]
    fn what_holds_in_the_end_is_checked() {
        let mut spec = settled(&[]).unwrap();
        let overrides = Overrides::parse(&["docker.skip_build=true"], Path::new("/p")).unwrap();
        let error = spec.clone().settle(None, &overrides).unwrap_err().to_string();
        assert!(error.starts_with("in the settings of step s: DockerSettings: `skip_build`"), "{error}");
        let file =
            SettingsFile::parse(Path::new("/p/longshore.toml"), "docker.parent_image = 'a:1'").unwrap();
        spec.settle(file.as_ref(), &overrides).unwrap();
    }
}
