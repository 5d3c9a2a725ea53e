# A server that clients of the public ingestion API stream to; their data becomes
# one Parquet table for each flow.
#
#   pipelined run pipelines/receiver
#
# With the default address any key is taken, from this machine only. To serve a
# network, set the address and the keys:
#
#   keys = [secret::env("GATEWAY_KEY")]

variable "listen" {
  type        = string
  default     = "127.0.0.1:50051"
  description = "Address and port"
}

pipeline "receiver" {
  source "sift" "in" {
    listen = var.listen
  }

  transport "parquet" "lake" {
    dir = "${data_dir}/${pipeline.name}/parquet"
  }
}
