# Replays a recorded flight from a CSV file to a server, at real speed.
#
#   SIFT_API_KEY=… pipelined run -var path=flight.csv pipelines/csv-flight
#
# The column `time_column` has seconds since `start`. `pipelined run pipelines/receiver`
# is a server for a first try; it takes any key.

variable "path" {
  type        = string
  description = "CSV file with a header; .gz is fine"
}

variable "time_column" {
  type        = string
  default     = "t"
  description = "Column with the time in seconds"
}

variable "start" {
  type        = string
  default     = "2026-01-01T00:00:00Z"
  description = "When the flight began"
}

variable "speed" {
  type        = string
  default     = "1"
  description = "Multiple of real speed, or max"
}

variable "uri" {
  type        = string
  default     = "http://127.0.0.1:50051"
  description = "Server; https for TLS"
}

pipeline "flight" {
  asset = "flight-replay"

  source "csv" "recording" {
    path  = var.path
    flow  = "flight"
    speed = var.speed
    time {
      column = var.time_column
      unit   = "s"
      start  = var.start
    }
  }

  encoder "ingestion_config" {
    client_key = "flight-replay-v1"
  }

  transport "sift" "live" {
    uri     = var.uri
    api_key = secret::env("SIFT_API_KEY")
  }
}
