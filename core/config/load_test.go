package config

import "testing"

func TestTry(t *testing.T) {
	c := mustLoad(t, `
pipeline "a" {
  asset = "x"
  source "csv" "s" {
    path = "${path.module}/data.csv"
    speed = "max"
    time {
      column = "t"
    }
  }
  encoder "ingestion_config" {
    client_key = "k"
  }
  transport "sift" "live" {
    uri = "https://x"
    api_key = secret::env("SECRET")
  }
}
`)
	t.Logf("%+v", c.Pipelines[0])
	t.Logf("%+v", c.Pipelines[0].Transports[0])
}
