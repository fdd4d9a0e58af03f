//! The MQTT adapter: a listener for devices and a client of other brokers.
