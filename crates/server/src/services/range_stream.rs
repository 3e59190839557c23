//! A range in pieces, all read at the revision of the first one.
//!
//! - A piece has ten keys at first; then twice as many as long as it is small, and half when it is large.
//! - Only the last one has a header, and says how many keys there are and whether there are more.
//! - A piece is read when the client has taken the one before: what is held for it is one piece.
//! - When the revision is compacted meanwhile, the stream ends with etcd's error for that.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use quorate_etcd_api::etcdserverpb::{self as pb, RangeStreamResponse};
use quorate_kv::{
    Caller, KeyRange, Page, PageRequest, Projection, Range, RangeResponse, Revision, RevisionFilter,
    SortOrder, SortTarget,
};
use tonic::Status;

use crate::auth::Session;
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::translate;

/// Begins to read a range. That it cannot be read at all is known when this returns.
pub(super) async fn begin(
    node: &Arc<Node>,
    session: Session,
    request: pb::RangeRequest,
) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>> + use<>, Status> {
    let is_serializable = request.serializable;
    let range = translate::range(request)?;
    check(&range)?;
    session.note(&range);
    let mut reading = Reading {
        node: Arc::clone(node),
        session,
        rest: Some(range.keys.clone()),
        range,
        pinned: None,
        sent: 0,
        max_keys: FIRST_KEYS,
        is_serializable,
    };
    let first = reading.next().await?;
    let others = futures::stream::unfold(Some(reading), async |reading| {
        let mut reading = reading.filter(|reading| reading.rest.is_some())?;
        let piece = reading.next().await;
        let reading = piece.is_ok().then_some(reading);
        Some((piece, reading))
    });
    Ok(futures::stream::iter([Ok(first)]).chain(others))
}

/// Refuses what needs the whole range before its first key is known.
fn check(range: &Range) -> Result<(), Status> {
    let is_in_order = range.target == SortTarget::Key && range.order != SortOrder::Descend;
    if !is_in_order {
        return Err(Status::unimplemented("range stream: sorting is not supported"));
    }
    if range.filter != RevisionFilter::default() {
        let problem = "range stream: filtering by revision is not supported";
        return Err(Status::unimplemented(problem));
    }
    Ok(())
}

/// A range that is being read.
struct Reading {
    node: Arc<Node>,
    session: Session,
    /// All that was asked for: whoever reads a part must have the right to all of it.
    range: Range,
    /// The keys that are left; none when the last piece was made.
    rest: Option<KeyRange>,
    /// None before the first piece.
    pinned: Option<Pinned>,
    sent: usize,
    max_keys: usize,
    is_serializable: bool,
}

/// What the first piece settles.
#[derive(Clone, Copy)]
struct Pinned {
    /// The newest revision at that time.
    current: Revision,
    /// The revision that all pieces are read at.
    at: Revision,
}

impl Reading {
    /// The next piece.
    async fn next(&mut self) -> Result<RangeStreamResponse, Status> {
        if self.range.projection == Projection::CountOnly {
            self.rest = None;
            let response = self.read_range(&self.range).await?;
            let header = self.node.header(response.revision);
            return Ok(piece(translate::range_response(header, response)));
        }
        let page = self.page().await?;
        let current = page.revision;
        let at = self.range.at.unwrap_or(current);
        let pinned = *self.pinned.get_or_insert(Pinned { current, at });
        self.sent += page.kvs.len();
        self.adapt(&page);
        let kvs = page.kvs.into_iter().map(translate::key_value).collect();
        let rest = page.rest.clone();
        self.rest = page.rest.filter(|_| self.wanted() > 0);
        let mut response = pb::RangeResponse {
            kvs,
            ..pb::RangeResponse::default()
        };
        if self.rest.is_none() {
            let left = self.count(rest, pinned).await?;
            response.header = Some(self.node.header(pinned.current));
            response.more = left > 0;
            response.count = i64::try_from(self.sent + left).unwrap_or(i64::MAX);
        }
        Ok(piece(response))
    }

    async fn page(&self) -> Result<Page, Status> {
        let request = PageRequest {
            keys: self.rest.clone().unwrap_or_else(|| self.range.keys.clone()),
            at: self.pinned.map_or(self.range.at, |pinned| Some(pinned.at)),
            projection: self.range.projection,
            max_keys: self.max_keys.min(self.wanted()),
            max_bytes: self.max_bytes(),
        };
        let read = |caller| {
            let answer = self.ask(Query::Page(caller, self.range.keys.clone(), request.clone()));
            async { answer!(answer.await?, Page).map_err(|error| translate::refused(&error)) }
        };
        self.act(read).await
    }

    /// How many keys there are in what was cut off by the limit.
    async fn count(&self, rest: Option<KeyRange>, pinned: Pinned) -> Result<usize, Status> {
        let Some(keys) = rest else { return Ok(0) };
        let range = Range {
            keys,
            at: Some(pinned.at),
            projection: Projection::CountOnly,
            ..self.range.clone()
        };
        // A right to the whole is one to a part.
        Ok(self.read_range(&range).await?.count)
    }

    async fn read_range(&self, range: &Range) -> Result<RangeResponse, Status> {
        let read = |caller| {
            let answer = self.ask(Query::Range(caller, range.clone()));
            async { answer!(answer.await?, Range).map_err(|error| translate::refused(&error)) }
        };
        self.act(read).await
    }

    /// The first question is answered by what is current. This member has that then.
    async fn ask(&self, query: Query) -> Result<crate::machine::Answer, Status> {
        match self.is_serializable || self.pinned.is_some() {
            true => self.node.read_local(query).await,
            false => self.node.read(query).await,
        }
    }

    /// Users and their rights may change between two pieces.
    async fn act<T, A>(&self, action: impl Fn(Caller) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<T, Status>>,
    {
        match self.pinned {
            None => self.session.act(&self.node, action).await,
            Some(_) => self.session.act_now(&self.node, action).await,
        }
    }

    /// How many keys more the client wants.
    fn wanted(&self) -> usize {
        let limit = self.range.limit.map_or(usize::MAX, std::num::NonZeroUsize::get);
        limit.saturating_sub(self.sent)
    }

    fn adapt(&mut self, page: &Page) {
        let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        if bytes >= self.max_bytes() {
            self.max_keys = (self.max_keys / 2).max(1);
        } else if bytes < self.max_bytes() / 2 {
            self.max_keys = self.max_keys.saturating_mul(2).min(MAX_KEYS);
        }
    }

    fn max_bytes(&self) -> usize {
        self.node.config().limits.max_request_bytes
    }
}

fn piece(response: pb::RangeResponse) -> RangeStreamResponse {
    let range_response = Some(response);
    RangeStreamResponse { range_response }
}

const FIRST_KEYS: usize = 10;
/// Commands wait while a piece is read.
const MAX_KEYS: usize = 10_240;
