pipeline "p" {
  source "cvs" "in" {
    path = "/x.csv"
  }
  source "parquet" "in2" {
  }
  source "broken" "in3" {
  }
  source "hostile" "in4" {
  }
  encoder "protobuf" {
  }
  transport "sfit" "out" {
  }
}
