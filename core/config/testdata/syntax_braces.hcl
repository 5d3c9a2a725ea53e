pipeline "a" {
  source "host" "in" {
    plugin {
  }
}
