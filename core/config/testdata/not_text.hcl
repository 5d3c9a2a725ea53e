pipeline "p" {
  asset = "ÿş"
}
