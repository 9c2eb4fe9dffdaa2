output "uri_secret_arn" {
  value = aws_secretsmanager_secret.uri.arn
}
