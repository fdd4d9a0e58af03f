use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system in memory, which is there until this value is dropped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
}

const SIZE: &str = "size=256m";

impl SmallDisk {
    /// Mounts it, which only root may do.
    pub(super) fn mount(path: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "transload-faults"]).arg(path);
        let output = mount.output().map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            Ok(Self { path: path.to_owned() })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all the space that is left.
    pub(super) fn fill(&self) -> std::io::Result<()> {
        let mut file = File::create(self.ballast())?;
        let mut piece: &[u8] = &[0; 16_384];
        // Down to the last bytes, since a journal's records are small.
        while !piece.is_empty() {
            match file.write(piece) {
                Ok(written) if written == piece.len() => {}
                Ok(_) | Err(_) => piece = piece.get(..piece.len() / 2).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub(super) fn relieve(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.ballast())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a gateway may still have files open there.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted: umount failed", self.path.display());
        }
    }
}
