output "api" {
  value = aws_lb.this.dns_name
}

output "security_group_id" {
  value = aws_security_group.tasks.id
}

output "setup_command" {
  value = join(" ", [
    "aws ecs run-task --cluster ${aws_ecs_cluster.this.name} --launch-type FARGATE",
    "--task-definition ${aws_ecs_task_definition.this["setup"].family} --network-configuration",
    "'awsvpcConfiguration={subnets=[${join(",", var.private_subnet_ids)}],securityGroups=[${aws_security_group.tasks.id}]}'",
  ])
}
