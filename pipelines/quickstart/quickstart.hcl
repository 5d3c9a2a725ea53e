# Two pipelines in one host: this machine's own telemetry goes through the public
# ingestion API over loopback into Parquet files that you can open at once.
#
#   pipelined run pipelines/quickstart

pipeline "machine" {
  asset   = "this-machine"
  run_for = "15s" # --for changes it

  source "host" "self" {
    period  = "500ms"
    periods = { cpu = "100ms" }
  }

  encoder "ingestion_config" {
    client_key = "this-machine-v1"
  }

  # Often, so that there is something to see; the default is a minute. Each one
  # finishes the receiver's files.
  checkpoint {
    interval = "5s"
  }

  # Change the address and add api_key = secret::env("SIFT_API_KEY") to stream to
  # another server.
  transport "sift" "loopback" {
    uri = "http://127.0.0.1:50051"
  }
}

pipeline "receiver" {
  source "sift" "in" {
    listen = "127.0.0.1:50051" # no keys: any key, from this machine only
    until  = pipeline.machine
  }

  transport "parquet" "lake" {
    dir = "${data_dir}/quickstart/parquet"
  }
}
