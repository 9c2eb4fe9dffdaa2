//! What the tests of backends elsewhere share.
#![allow(dead_code)]
