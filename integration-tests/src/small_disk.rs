use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system in memory, which is there until this value is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB, which only root may do.
    ///
    /// # Errors
    /// Why it could not be mounted.
    pub fn mount(path: &Path, mebibytes: u32) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut mount = Command::new("mount");
        let size = format!("size={mebibytes}m");
        mount.args(["-t", "tmpfs", "-o", &size, "transload-faults"]).arg(path);
        let output = mount.output().map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            Ok(Self { path: path.to_owned() })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Lets nothing be written any more, or again.
    ///
    /// # Errors
    /// Why the system does not do that.
    pub fn read_only(&self, read_only: bool) -> Result<(), String> {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let output = Command::new("mount").args(["-o", how]).arg(&self.path).output();
        let output = output.map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// When the file that takes it cannot be made.
    pub fn fill(&self) -> std::io::Result<()> {
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
    ///
    /// # Errors
    /// When the file that takes it cannot be removed.
    pub fn relieve(&self) -> std::io::Result<()> {
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
