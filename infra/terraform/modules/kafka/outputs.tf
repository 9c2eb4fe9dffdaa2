output "brokers" {
  value = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "user" {
  value = var.name
}

output "password_secret_arn" {
  value = aws_secretsmanager_secret.password.arn
}
