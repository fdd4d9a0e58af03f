//! Tests against real brokers and foreign clients, all in one program, so that they share what
//! takes long to start.

mod address;
mod amqp;
mod fixtures;
mod matrix;
mod peers;
