output "api" {
  description = "The load balancer's name: point the certificate's name at it."
  value       = module.service.api
}

output "environment" {
  description = "The settings of every nearcast process, by the names that its configuration has."
  value       = local.environment
}

output "secrets" {
  description = "The settings that are secret: the same names, to the ARNs of the secrets that hold them."
  value       = local.secrets
}

output "setup" {
  description = "Run once after the first apply, and after updates: makes topics, collections, indexes and constraints."
  value       = module.service.setup_command
}
