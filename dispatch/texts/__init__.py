"""This package is the gateways that carry text messages, one module each; `dispatch.sms` chooses among them."""
