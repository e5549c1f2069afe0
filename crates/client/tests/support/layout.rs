//! An OCI image layout (image specification, "Image Layout") as a source and a sink.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use longshore_client::{BlobSource, BlobWriter, CommitError, ImageSink, ImageSource};
use longshore_oci::{Descriptor, Digest, Index};

/// A folder with one image.
pub(crate) struct Layout {
    folder: PathBuf,
    root: Option<Descriptor>,
}

impl Layout {
    /// The image in a folder.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let index = Index::parse(&fs::read(folder.join("index.json"))?).map_err(io::Error::other)?;
        let root = index.manifests.into_iter().next();
        root.as_ref().ok_or_else(|| io::Error::other("the layout has no image"))?;
        Ok(Self { folder: folder.to_owned(), root })
    }

    /// A folder for an image that is to come.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        Ok(Self { folder: folder.to_owned(), root: None })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }
}

impl BlobSource for Layout {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.path(&blob.digest))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl ImageSource for Layout {
    fn root(&self) -> Descriptor {
        self.root.clone().unwrap_or_else(|| unreachable!("an image was opened"))
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        fs::read(self.path(&descriptor.digest))
    }
}

impl ImageSink for Layout {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(fs::metadata(self.path(&blob.digest)).is_ok_and(|found| found.len() == blob.size))
    }

    fn writer(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        let path = self.path(&blob.digest);
        let part = path.with_extension("part");
        Ok(Box::new(Writer { file: File::create(&part)?, part, path }))
    }

    fn manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.path(&descriptor.digest), bytes)?;
        fs::write(self.folder.join("index.json"), Index::new(vec![descriptor.clone()]).to_bytes())
    }
}

struct Writer {
    file: File,
    part: PathBuf,
    path: PathBuf,
}

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn commit(self: Box<Self>, _: &Digest) -> Result<(), CommitError> {
        Ok(fs::rename(&self.part, &self.path)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a commit there is none.
        let _ = fs::remove_file(&self.part);
    }
}
