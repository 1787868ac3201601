// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Collector} from "../src/collectors/Collector.sol";
import {Erc3009Collector} from "../src/collectors/Erc3009Collector.sol";
import {ISignatureTransfer, Permit2Collector} from "../src/collectors/Permit2Collector.sol";
import {PermitCollector} from "../src/collectors/PermitCollector.sol";
import {TestUSD} from "../src/dev/TestUSD.sol";
import {Market} from "./kit/Market.sol";
import {Permit2} from "./kit/Permit2.sol";

/// Knows every kind of signature; keeps a tenth or calls somebody in a transfer, if told to.
contract OddSigningToken is TestUSD {
    bool public keepsFee;
    address public calls;
    bytes public call;

    function setFee(bool keeps) external {
        keepsFee = keeps;
    }

    function arm(address calls_, bytes calldata call_) external {
        (calls, call) = (calls_, call_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (keepsFee && from != address(0) && to != address(0)) super._update(to, address(0), amount / 10);
        if (calls == address(0) || from == address(0)) return;
        (bool ok, bytes memory reason) = calls.call(call);
        if (!ok) {
            assembly {
                revert(add(reason, 32), mload(reason))
            }
        }
    }
}

/// What is true of every collector; each kind says how its payer signs and how it is called.
abstract contract CollectorSuite is Market {
    uint256 internal constant PAYER_SECRET = 0x9A1E8;

    OddSigningToken internal odd;
    Collector internal collector;
    address internal payer;

    function setUp() public override {
        super.setUp();
        odd = new OddSigningToken();
        token = odd;
        _deploy(odd);
        vm.prank(operator);
        coordinator = ledger.addCoordinator();
        _open(RENTER_SECRET);
        payer = vm.addr(PAYER_SECRET);
        odd.mint(payer, 100e6);
        collector = _collector();
    }

    function test_anybodyRelaysADeposit() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);

        vm.expectEmit();
        emit Collector.Relayed(renter, payer, 10e6);
        vm.prank(address(0xA11));
        _do(call);

        _assertPaid(10e6);
    }

    function test_itPaysTheSignedAccountAndAmountOnly() public {
        address other = _open(0x07E8);

        _assertRefused(_call(PAYER_SECRET, renter, 10e6, other, 10e6, FAR));
        _assertRefused(_call(PAYER_SECRET, renter, 10e6, renter, 11e6, FAR));
        _assertRefused(_call(PAYER_SECRET, renter, 10e6, renter, 9e6, FAR));
        _assertRefused(_call(0xBAD, renter, 10e6, renter, 10e6, FAR));
    }

    function test_aDepositIsMadeOnce() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        _do(call);

        (bool ok,) = address(collector).call(call);

        vm.assertEq(ok, false);
        _assertPaid(10e6);
    }

    function test_anExpiredDepositIsRefused() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        vm.warp(FAR + 1);

        _assertRefused(call);
    }

    function test_whileTheLedgerIsPausedNothingIsTaken() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        vm.prank(ADMIN);
        ledger.setPaused(true);
        _assertRefused(call);
        vm.prank(ADMIN);
        ledger.setPaused(false);

        _do(call);

        _assertPaid(10e6);
    }

    function test_anAccountThatIsNotOpenTakesNothing() public {
        address closed = vm.addr(0x07E8);
        bytes memory call = _call(PAYER_SECRET, closed, 10e6, closed, 10e6, FAR);
        _assertRefused(call);
        _open(0x07E8);

        _do(call);

        vm.assertEq(_balance(closed), 10e6);
    }

    function test_aTokenThatKeepsAFeeCreditsWhatArrives() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        odd.setFee(true);

        _do(call);

        vm.assertEq(_balance(renter), 8.1e6);
        vm.assertEq(odd.balanceOf(address(collector)), 0);
    }

    function test_aTokenThatReentersGainsNothing() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        odd.arm(address(collector), call);

        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        _do(call);
    }

    function test_donationsToACollectorAreNobodys() public {
        odd.mint(address(collector), 5e6);

        _do(_call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR));

        vm.assertEq(_balance(renter), 10e6);
        vm.assertEq(odd.balanceOf(address(collector)), 5e6);
    }

    function testFuzz_whatIsTakenIsCredited(uint96 amount) public {
        amount = uint96(bound(amount, 0, 100e6));

        _do(_call(PAYER_SECRET, renter, amount, renter, amount, FAR));

        _assertPaid(amount);
    }

    function _collector() internal virtual returns (Collector);

    /// The call that deposits for `to`, with a signature by whoever has the secret, over `key` and `signed`.
    function _call(uint256 secret, address key, uint256 signed, address to, uint256 value, uint40 deadline)
        internal
        virtual
        returns (bytes memory);

    function _do(bytes memory call) internal {
        (bool ok, bytes memory reason) = address(collector).call(call);
        if (ok) return;
        assembly {
            revert(add(reason, 32), mload(reason))
        }
    }

    function _assertRefused(bytes memory call) internal {
        (bool ok,) = address(collector).call(call);
        vm.assertEq(ok, false);
        vm.assertEq(odd.balanceOf(payer), 100e6);
        vm.assertEq(odd.balanceOf(address(ledger)) + odd.balanceOf(address(collector)), 0);
    }

    function _assertPaid(uint256 amount) internal view {
        vm.assertEq(_balance(renter), amount);
        vm.assertEq(odd.balanceOf(payer), 100e6 - amount);
        vm.assertEq(odd.balanceOf(address(ledger)), amount);
        vm.assertEq(odd.balanceOf(address(collector)), 0);
    }

    function _bytes(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function _typed(bytes32 domain, bytes32 hash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, hash));
    }
}

contract Erc3009CollectorTest is CollectorSuite {
    bytes32 private constant SALT = keccak256("salt");
    uint256 private validAfter = NOW - 1;

    function test_anAuthorizationWaitsForItsTime() public {
        validAfter = NOW;
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);

        _assertRefused(call);
        vm.warp(NOW + 1);
        _do(call);
        _assertPaid(10e6);
    }

    function test_anAuthorizationIsNoUseToOthers() public {
        (uint8 v, bytes32 r, bytes32 s) = _authorization(PAYER_SECRET, renter, 10e6, FAR);
        bytes32 nonce = keccak256(abi.encode(renter, SALT));

        vm.expectRevert();
        odd.receiveWithAuthorization(payer, address(collector), 10e6, validAfter, FAR, nonce, v, r, s);
    }

    function _collector() internal override returns (Collector) {
        return new Erc3009Collector(ledger);
    }

    function _call(uint256 secret, address key, uint256 signed, address to, uint256 value, uint40 deadline)
        internal
        view
        override
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = _authorization(secret, key, signed, deadline);
        return abi.encodeCall(
            Erc3009Collector.deposit,
            (to, Erc3009Collector.Authorization(payer, value, validAfter, deadline, SALT, v, r, s))
        );
    }

    function _authorization(uint256 secret, address key, uint256 value, uint40 deadline)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 hash = keccak256(
            abi.encode(
                keccak256(
                    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                ),
                payer,
                address(collector),
                value,
                validAfter,
                deadline,
                keccak256(abi.encode(key, SALT))
            )
        );
        return vm.sign(secret, _typed(odd.DOMAIN_SEPARATOR(), hash));
    }
}

contract PermitCollectorTest is CollectorSuite {
    function test_aPermitThatWasHandedInFirstStillWorks() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        (uint8 v, bytes32 r, bytes32 s) = _permit(PAYER_SECRET, 10e6, FAR);
        vm.prank(address(0xBAD));
        odd.permit(payer, address(collector), 10e6, FAR, v, r, s);

        _do(call);

        _assertPaid(10e6);
    }

    function test_anAllowanceNeedsNoPermit() public {
        vm.prank(payer);
        odd.approve(address(collector), 10e6);
        PermitCollector.Permit memory by = PermitCollector.Permit(payer, 10e6, FAR, 0, 0, 0);

        PermitCollector(address(collector)).deposit(renter, by, _deposit(PAYER_SECRET, renter, 10e6, FAR));

        _assertPaid(10e6);
    }

    function test_aPermitAloneMovesNothing() public {
        (uint8 v, bytes32 r, bytes32 s) = _permit(PAYER_SECRET, 10e6, FAR);
        PermitCollector.Permit memory by = PermitCollector.Permit(payer, 10e6, FAR, v, r, s);
        bytes memory others = _deposit(0xBAD, renter, 10e6, FAR);

        vm.expectRevert(abi.encodeWithSelector(PermitCollector.NotSignedBy.selector, payer));
        PermitCollector(address(collector)).deposit(renter, by, others);
    }

    function test_depositsAreNumbered() public {
        vm.prank(payer);
        odd.approve(address(collector), 100e6);
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        _do(call);

        vm.expectRevert(abi.encodeWithSelector(PermitCollector.NotSignedBy.selector, payer));
        _do(call);
        vm.assertEq(PermitCollector(address(collector)).nonces(payer), 1);
        _do(_call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR));
        _assertPaid(20e6);
    }

    function test_anExpiredOneSaysSo() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        vm.warp(FAR + 1);

        vm.expectRevert(abi.encodeWithSelector(PermitCollector.Expired.selector, FAR));
        _do(call);
        vm.warp(FAR); // in its last second
        _do(call);
        _assertPaid(10e6);
    }

    function _collector() internal override returns (Collector) {
        return new PermitCollector(ledger);
    }

    function _call(uint256 secret, address key, uint256 signed, address to, uint256 value, uint40 deadline)
        internal
        view
        override
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = _permit(PAYER_SECRET, value, deadline);
        bytes memory signature = _deposit(secret, key, signed, deadline);
        return abi.encodeCall(
            PermitCollector.deposit, (to, PermitCollector.Permit(payer, value, deadline, v, r, s), signature)
        );
    }

    function _permit(uint256 secret, uint256 value, uint256 deadline)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 hash = keccak256(abi.encode(typehash, payer, address(collector), value, odd.nonces(payer), deadline));
        return vm.sign(secret, _typed(odd.DOMAIN_SEPARATOR(), hash));
    }

    function _deposit(uint256 secret, address key, uint256 value, uint256 deadline)
        private
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256("Deposit(address from,address key,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 nonce = PermitCollector(address(collector)).nonces(payer);
        bytes32 hash = keccak256(abi.encode(typehash, payer, key, value, nonce, deadline));
        return _bytes(secret, _digest(address(collector), "Gristmill Deposit", hash));
    }
}

contract Permit2CollectorTest is CollectorSuite {
    Permit2 private permit2;

    function test_aSignatureForAnotherSpenderIsRefused() public {
        bytes memory call = _call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR);
        collector = new Permit2Collector(ledger, permit2);

        vm.expectRevert(Permit2.InvalidSigner.selector);
        _do(call);
    }

    function test_noncesNeedNoOrder() public {
        vm.assertEq(permit2.nonceBitmap(payer, 1), 0);

        _do(_call(PAYER_SECRET, renter, 10e6, renter, 10e6, FAR));

        vm.assertEq(permit2.nonceBitmap(payer, 1), 2);
    }

    function _collector() internal override returns (Collector) {
        permit2 = new Permit2();
        vm.prank(payer);
        odd.approve(address(permit2), type(uint256).max);
        return new Permit2Collector(ledger, permit2);
    }

    function _call(uint256 secret, address key, uint256 signed, address to, uint256 value, uint40 deadline)
        internal
        view
        override
        returns (bytes memory)
    {
        bytes32 witness = keccak256(abi.encode(keccak256("Deposit(address key)"), key));
        bytes32 digest = permit2.hashOf(
            ISignatureTransfer.PermitTransferFrom(
                ISignatureTransfer.TokenPermissions(address(odd), signed), 257, deadline
            ),
            address(collector),
            witness,
            "Deposit witness)Deposit(address key)TokenPermissions(address token,uint256 amount)"
        );
        return abi.encodeCall(Permit2Collector.deposit, (to, payer, value, 257, deadline, _bytes(secret, digest)));
    }
}
