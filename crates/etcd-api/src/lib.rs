//! The etcd v3 wire types, generated and checked in, and the error table.
