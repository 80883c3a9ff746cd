"""Users and roles of etcd: what an operator, or a test, sets up."""

from pydantic import SecretStr

from services.runtime.etcd_members import Members
from services.runtime.etcd_wire import range_of
from services.runtime.etcdpb import auth_pb2, rpc_pb2


class Access:
    """Who may do what. All of it is for the user root once access is checked. Raises EtcdAway and EtcdRefused."""

    def __init__(self, members: Members) -> None:
        self._members = members

    async def enable(self) -> None:
        """Check access from now on. There must be a user root with the role root."""
        await self._members.write(
            lambda member: member.auth.AuthEnable, rpc_pb2.AuthEnableRequest(), "access checks on"
        )

    async def disable(self) -> None:
        request = rpc_pb2.AuthDisableRequest()
        await self._members.write(lambda member: member.auth.AuthDisable, request, "access checks off")

    async def add_user(self, name: str, password: SecretStr) -> None:
        request = rpc_pb2.AuthUserAddRequest(name=name, password=password.get_secret_value())
        await self._members.write(lambda member: member.auth.UserAdd, request, f"new user {name!r}")

    async def remove_user(self, name: str) -> None:
        request = rpc_pb2.AuthUserDeleteRequest(name=name)
        await self._members.write(lambda member: member.auth.UserDelete, request, f"removal of user {name!r}")

    async def change_password(self, name: str, password: SecretStr) -> None:
        """All tokens that the user was given before end with it."""
        request = rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password.get_secret_value())
        await self._members.write(lambda member: member.auth.UserChangePassword, request, f"password of user {name!r}")

    async def add_role(self, name: str) -> None:
        request = rpc_pb2.AuthRoleAddRequest(name=name)
        await self._members.write(lambda member: member.auth.RoleAdd, request, f"new role {name!r}")

    async def give_role(self, user: str, role: str) -> None:
        request = rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role)
        await self._members.write(lambda member: member.auth.UserGrantRole, request, f"role {role!r} for {user!r}")

    async def take_role(self, user: str, role: str) -> None:
        request = rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._members.write(lambda member: member.auth.UserRevokeRole, request, f"role {role!r} of {user!r}")

    async def allow(self, role: str, prefix: str, write: bool = False) -> None:
        """Let a role read, or read and write, what is below a prefix."""
        key, end = range_of(prefix, prefix=True)
        kind = auth_pb2.Permission.READWRITE if write else auth_pb2.Permission.READ
        request = rpc_pb2.AuthRoleGrantPermissionRequest(
            name=role, perm=auth_pb2.Permission(perm_type=kind, key=key, range_end=end)
        )
        await self._members.write(lambda member: member.auth.RoleGrantPermission, request, f"access of role {role!r}")

    async def forbid(self, role: str, prefix: str) -> None:
        """Take back what `allow` gave for the same prefix."""
        key, end = range_of(prefix, prefix=True)
        request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)
        await self._members.write(lambda member: member.auth.RoleRevokePermission, request, f"access of role {role!r}")
