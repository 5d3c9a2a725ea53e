pipeline "p" {
  asset = "a"

  source "host" "self" {
    plugin {
      sandbox = "required"
    }
  }

  encoder "ingestion_config" {
    plugin {
      sandbox = "required"
    }
  }

  transport "sift" "live" {
    uri      = "http://127.0.0.1:50051"
    api_key  = secret::env("SECRET")
    required = false
  }
}
