//! One running process of the binary.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running process; it is killed when this is dropped, and by the kernel if our own thread dies.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `words`, a program and its arguments. What it prints is added to the file `log`.
    ///
    /// # Errors
    ///
    /// If the program cannot be run.
    pub(crate) fn spawn(words: &[String], log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {words:?}"))?;
        Ok(Self {
            child,
            log: log.to_path_buf(),
        })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// If it had ended by itself before: with what it printed last.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.check_running()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end, as an operator does, and waits for it.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub(crate) fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let started = Instant::now();
        while started.elapsed() < super::PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the process does not end on SIGTERM: {}", self.last_words())
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    ///
    /// With its exit status and what it printed last.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the process ended by itself, {status}: {}", self.last_words()),
        }
    }

    /// The end of what the process printed.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing more to be done about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of {}\n{}", self.log.display(), self.last_words());
        }
    }
}
