//! What reads strangers' bytes, for the fuzz targets. No part of this crate's API.

pub use crate::auth::fuzzing::{JwtReader, simple_token};
pub use crate::authority::fuzzing::mended;
pub use crate::backup::fuzzing::import;
pub use crate::gateway::fuzzing::{Gateway, cut};
pub use crate::translate::fuzzing::{delete_range, permission, put, range, txn, watch};
