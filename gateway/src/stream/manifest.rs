//! `streams.json` in the data directory: which partition of the journal is whose, for tools that
//! read the directory while its gateway holds the catalog. Written anew at each start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{Format, StreamConfig};
use crate::stream::TopicPattern;

const FILE: &str = "streams.json";
const VERSION: u32 = 1;

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// (stream, partition, number in the journal).
    pub(super) partitions: Vec<(String, u16, u16)>,
    pub(super) streams: BTreeMap<String, SavedStream>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedStream {
    topic: String,
    key: Option<String>,
    format: String,
    /// The log beside the journal where its records are too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

/// A data directory whose manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read or written.
    #[error("{file}: {source}; name the data_dir of a gateway that has run at least once")]
    Io {
        /// Which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The file is not a manifest of this version.
    #[error("{file}: {why}; start the gateway once, it writes the file anew")]
    Content {
        /// Which file.
        file: String,
        /// What does not fit.
        why: String,
    },
}

impl Manifest {
    pub(super) fn new<'a>(
        partitions: impl Iterator<Item = (String, u16, u16)>,
        streams: impl Iterator<Item = &'a StreamConfig>,
    ) -> Self {
        let streams = streams.map(|config| {
            let saved = SavedStream {
                topic: config.topic.to_string(),
                key: config.key.clone(),
                format: config.format.name().to_owned(),
                log: config.log.clone(),
            };
            (config.name.clone(), saved)
        });
        Self { version: VERSION, partitions: partitions.collect(), streams: streams.collect() }
    }

    /// Reads the manifest of a data directory.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn load(data_dir: &Path) -> Result<Self, ManifestError> {
        let path = data_dir.join(FILE);
        let file = path.display().to_string();
        let text = std::fs::read(&path)
            .map_err(|source| ManifestError::Io { file: file.clone(), source })?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|why| ManifestError::Content { file: file.clone(), why: why.to_string() })?;
        if manifest.version == VERSION {
            Ok(manifest)
        } else {
            let why = format!("version {} is not known", manifest.version);
            Err(ManifestError::Content { file, why })
        }
    }

    /// Writes it: aside, then renamed, so that a reader finds a whole file.
    ///
    /// # Errors
    /// [`ManifestError::Io`].
    pub fn save(&self, data_dir: &Path) -> Result<(), ManifestError> {
        let path = data_dir.join(FILE);
        let aside = data_dir.join(format!("{FILE}.new"));
        let json = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        std::fs::write(&aside, json)
            .and_then(|()| std::fs::rename(&aside, &path))
            .map_err(|source| ManifestError::Io { file: path.display().to_string(), source })
    }
}

impl SavedStream {
    /// What reading needs of a stream's configuration; the rest has its default.
    pub(super) fn config(&self, name: &str) -> Option<StreamConfig> {
        Some(StreamConfig {
            name: name.to_owned(),
            topic: TopicPattern::parse(&self.topic).ok()?,
            key: self.key.clone(),
            format: Format::from_name(&self.format)?,
            time: None,
            partitions: 1,
            columns: BTreeMap::new(),
            lateness: std::time::Duration::ZERO,
            idle: std::time::Duration::ZERO,
            log: self.log.clone(),
            is_state: false,
        })
    }
}
